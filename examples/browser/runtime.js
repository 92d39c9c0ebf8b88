// ONNX Runtime over one text whose keys and values stay in place.
//
// onnxruntime-web's session.run copies every input into the WebAssembly memory and every output out
// of it: for a cache, all of it, twice for every token. Here the cache lies in that memory and is
// both input (past) and output (present) of the graph, which then appends to it in place. So this
// calls the functions that onnxruntime-web's own JavaScript calls; they are not its public interface:
// keep its version pinned (package.json), and the test when you change it.

const FLOAT = 1, INT64 = 7, ON_CPU = 1; // ONNX Runtime's numbers for types and places
const ERROR = 3, OPTIMIZE_ALL = 99, SEQUENTIAL = 0;
const BLOCK = 64; // tokens; the cache's room is a multiple of it
const CHUNK = 128; // tokens of a prompt that are computed in one pass

export class Runtime {
    // `module` is what ort-wasm-simd-threaded.mjs made; `graph` and `weights` are the bytes of
    // model_q4.onnx and model_q4.onnx_data, `weightsName` the name by which the graph calls the latter.
    static async open(module, { graph, weights, weightsName, config, threads = 1 }) {
        const runtime = new Runtime(module, config);
        await runtime.#open(graph, weights, weightsName, threads);
        return runtime;
    }

    constructor(module, config) {
        this.tokens = []; // whose keys and values the cache holds
        this.context = config.n_positions;
        this.vocabulary = config.vocab_size;
        this.#module = module;
        this.#heads = config.n_head;
        this.#width = config.n_embd / config.n_head;
        const sides = [...Array(config.n_layer).keys()].flatMap((i) => [`${i}.key`, `${i}.value`]);
        this.#inputs = ["input_ids", "attention_mask", "position_ids", ...sides.map((s) => `past_key_values.${s}`)];
        this.#outputs = ["logits", ...sides.map((s) => `present.${s}`)];
    }

    #module;
    #heads;
    #width;
    #inputs; // names, by and by their addresses
    #outputs;
    #session = 0;
    #runOptions = 0;
    #capacity = 0; // tokens that the cache has room for
    #cache = []; // a buffer for each layer's keys and for its values
    #step = null; // what one token's pass reads and writes

    // Compute what is new in `tokens`; return the logits of what follows, valid until the next call.
    // What the text has in common with the one before is in the cache.
    async append(tokens) {
        let same = 0;
        while (same < this.tokens.length && this.tokens[same] === tokens[same]) same++;
        same = Math.min(same, tokens.length - 1); // the last one's logits are wanted
        this.tokens.length = same;
        for (let begin = same; begin < tokens.length; begin += CHUNK) {
            await this.#run(tokens.slice(begin, begin + CHUNK));
        }
        return this.#step.logits.view(Float32Array);
    }

    async #run(tokens) {
        const start = this.tokens.length, end = start + tokens.length;
        if (end > this.context) throw new RangeError(`the text exceeds the model's ${this.context} tokens`);
        this.#reserve(end);
        if (tokens.length === 1) await this.#runStep(tokens[0], start);
        else await this.#runChunk(tokens, start);
        this.tokens.push(...tokens);
    }

    async #runStep(token, position) {
        const step = this.#step;
        step.ids.view(BigInt64Array)[0] = BigInt(token);
        step.positions.view(BigInt64Array)[0] = BigInt(position);
        const mask = step.mask.view(BigInt64Array);
        mask.fill(1n, 0, position + 1);
        mask.fill(0n, position + 1); // as long as the cache's room: bound once
        await this.#call([step.ids, step.mask, step.positions, ...this.#cache], step.logits);
    }

    async #runChunk(tokens, start) {
        const end = start + tokens.length;
        const ids = this.#tensor(INT64, [1, tokens.length]);
        const positions = this.#tensor(INT64, [1, tokens.length]);
        const mask = this.#tensor(INT64, [1, end]);
        try {
            ids.view(BigInt64Array).set(tokens.map(BigInt));
            positions.view(BigInt64Array).set(tokens.map((_, i) => BigInt(start + i)));
            mask.view(BigInt64Array).fill(1n);
            await this.#call([ids, mask, positions, ...this.#cache], this.#step.logits);
        } finally {
            for (const tensor of [ids, positions, mask]) this.#free(tensor);
        }
    }

    // The cache's buffers are given as past and as present: that is what appends in place.
    async #call(inputs, logits) {
        const module = this.#module, stack = module.stackSave();
        try {
            const code = await module._OrtRun(
                this.#session,
                this.#list(this.#inputs), this.#list(inputs.map((tensor) => tensor.handle)), inputs.length,
                this.#list(this.#outputs), this.#outputs.length,
                this.#list([logits, ...this.#cache].map((tensor) => tensor.handle)),
                this.#runOptions,
            );
            this.#check(code === 0);
        } finally {
            module.stackRestore(stack);
        }
    }

    // Make room for `tokens`, twice as much as before, so that moving costs little in all.
    #reserve(tokens) {
        if (tokens <= this.#capacity) return;
        const room = Math.min(this.context, BLOCK * Math.ceil(Math.max(tokens, 2 * this.#capacity) / BLOCK));
        const grown = this.#cache.length ? this.#cache : this.#inputs.slice(3);
        this.#cache = grown.map((old) => {
            const tensor = this.#tensor(FLOAT, [1, this.#heads, room, this.#width]);
            if (old.handle) this.#move(old, tensor, room);
            return tensor;
        });
        this.#capacity = room;
        if (this.#step) Object.values(this.#step).forEach((tensor) => this.#free(tensor));
        this.#step = {
            ids: this.#tensor(INT64, [1, 1]),
            positions: this.#tensor(INT64, [1, 1]),
            mask: this.#tensor(INT64, [1, room]),
            logits: this.#tensor(FLOAT, [1, 1, this.vocabulary]),
        };
    }

    #move(old, tensor, room) {
        const from = old.view(Float32Array), to = tensor.view(Float32Array);
        const [had, has] = [this.#capacity * this.#width, room * this.#width];
        for (let head = 0; head < this.#heads; head++) {
            to.set(from.subarray(head * had, head * had + this.tokens.length * this.#width), head * has);
        }
        this.#free(old);
    }

    // A tensor in the WebAssembly memory, where JavaScript and ONNX Runtime both see it.
    #tensor(type, dims) {
        const module = this.#module, stack = module.stackSave();
        const count = dims.reduce((product, size) => product * size, 1);
        const bytes = count * (type === INT64 ? 8 : 4);
        const address = module._malloc(bytes);
        if (!address) throw new RangeError("the browser has no memory left for the model's cache");
        const handle = module._OrtCreateTensor(type, address, bytes, this.#list(dims), dims.length, ON_CPU);
        module.stackRestore(stack);
        this.#check(handle);
        return { handle, address, view: (Kind) => new Kind(module.HEAPU8.buffer, address, count) };
    }

    #free({ handle, address }) {
        this.#module._OrtReleaseTensor(handle);
        this.#module._free(address);
    }

    async #open(graph, weights, weightsName, threads) {
        const module = this.#module;
        this.#check(module._OrtInit(threads, ERROR) === 0);
        const options = module._OrtCreateSessionOptions(OPTIMIZE_ALL, true, true, SEQUENTIAL, false, 0, 0, ERROR, 0, 0);
        this.#check(options);
        // Weights are unpacked now, not at every token: see unpack.py.
        this.#check(module._OrtAddSessionConfigEntry(options, this.#string("session.disable_quant_qdq"), this.#string("1")) === 0);
        const address = module._malloc(graph.byteLength);
        module.HEAPU8.set(graph, address);
        module.mountExternalData(weightsName, weights);
        try {
            this.#session = await module._OrtCreateSession(address, graph.byteLength, options);
        } finally {
            module.unmountExternalData();
            module._free(address);
            module._OrtReleaseSessionOptions(options);
        }
        this.#check(this.#session);
        this.#runOptions = module._OrtCreateRunOptions(ERROR, 0, false, 0);
        [this.#inputs, this.#outputs] = [this.#inputs, this.#outputs].map((names) => names.map((name) => this.#string(name)));
    }

    #string(text) {
        const size = this.#module.lengthBytesUTF8(text) + 1, address = this.#module._malloc(size);
        this.#module.stringToUTF8(text, address, size);
        return address;
    }

    #list(numbers) {
        const address = this.#module.stackAlloc(4 * numbers.length);
        numbers.forEach((number, i) => this.#module.setValue(address + 4 * i, number, "i32"));
        return address;
    }

    #check(fine) {
        if (fine) return;
        const module = this.#module, places = module.stackAlloc(8);
        module._OrtGetLastError(places, places + 4);
        const message = module.getValue(places + 4, "*");
        throw new Error(message ? module.UTF8ToString(message) : "ONNX Runtime failed");
    }
}
