// The model, in a thread of its own: the page stays quick, and a click on Stop is heard at once.
//
//     in     {type: "generate", text, temperature, maxNewTokens}, {type: "stop"}
//     out    {type: "progress", loaded, total}, {type: "ready", ...}, {type: "piece", text},
//            {type: "done", ids, reason, ...}, {type: "error", message}

import { Downloads, json } from "./download.js";
import { Runtime } from "./runtime.js";
import { pick, TextStream } from "./text.js";
import { Tokenizer } from "./vendor/tokenizers.min.mjs";
import createModule from "./vendor/ort-wasm-simd-threaded.mjs";

const WASM = "ort-wasm-simd-threaded.wasm";
const MOST_THREADS = 4;

let model = null; // {runtime, tokenizer, config, ends}
let stopped = false;
const turns = new MessageChannel(); // lets messages in between two tokens, sooner than a timer would

self.onmessage = ({ data }) => {
    if (data.type === "stop") stopped = true;
    else generate(data).catch(fail);
};

load().catch(fail);

function fail(error) {
    postMessage({ type: "error", message: error?.message ?? String(error) });
}

async function load() {
    const [config, defaults, manifest, sizes] = await Promise.all(
        ["model/config.json", "model/generation_config.json", "model/pocketgpt.json", "vendor/sizes.json"].map(json),
    );
    const variant = "q4" in manifest.variants ? "q4" : Object.keys(manifest.variants)[0];
    const { files: [graph, weights], quality } = manifest.variants[variant];
    const words = manifest.companions.find(({ path }) => path === "tokenizer.json");
    const files = [graph, weights, words];
    const total = files.reduce((sum, file) => sum + file.bytes, sizes[WASM]);
    const downloads = new Downloads(total, (loaded) => postMessage({ type: "progress", loaded, total }));
    const threads = threadsHere();
    const [module, tokenizerConfig, ...bytes] = await Promise.all([
        openModule(downloads, threads),
        json("model/tokenizer_config.json"),
        ...files.map(({ path, bytes }) => downloads.bytes(`model/${path}`, bytes)),
    ]);
    const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(bytes[2])), tokenizerConfig);
    const weightsName = weights.path.split("/").at(-1);
    const runtime = await Runtime.open(module, { graph: bytes[0], weights: bytes[1], weightsName, config, threads });
    const eos = defaults.eos_token_id ?? config.eos_token_id;
    model = { runtime, tokenizer, config, ends: new Set([eos].flat()) };
    postMessage({
        type: "ready", variant, threads,
        name: manifest.source.split("/").at(-1),
        parameters: manifest.parameters,
        bytes: graph.bytes + weights.bytes,
        loss: quality.loss,
        context: config.n_positions,
    });
}

// Several where the server isolates the page; ?threads=2 in its address asks for so many.
function threadsHere() {
    if (!self.crossOriginIsolated) return 1;
    const asked = Number(new URLSearchParams(location.search).get("threads"));
    return asked || Math.min(MOST_THREADS, Math.ceil(navigator.hardwareConcurrency / 2));
}

async function openModule(downloads, threads) {
    const response = await downloads.response(`vendor/${WASM}`);
    return new Promise((resolve, reject) => {
        const instantiateWasm = (imports, done) => {
            instantiate(response, imports).then(({ instance, module }) => done(instance, module), reject);
            return {};
        };
        createModule({ numThreads: threads, instantiateWasm }).then(resolve, reject);
    });
}

async function instantiate(response, imports) {
    if (response.headers.get("Content-Type") === "application/wasm") {
        return WebAssembly.instantiateStreaming(response, imports);
    }
    return WebAssembly.instantiate(await response.arrayBuffer(), imports);
}

async function generate({ text, temperature, maxNewTokens }) {
    const { runtime, tokenizer, config, ends } = model;
    const decode = (ids) => tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    const all = text ? tokenizer.encode(text).ids : [config.bos_token_id];
    const room = config.n_positions - Math.min(maxNewTokens, config.n_positions >> 1);
    const tokens = all.length > room ? all.slice(-room) : [...all]; // of a long text, what is nearest
    const stream = new TextStream(decode, tokens.at(-1));
    const made = [];
    const begin = performance.now();
    let first = begin, reason = "length";
    stopped = false;
    while (made.length < maxNewTokens) {
        if (tokens.length === config.n_positions) { reason = "context"; break; }
        const next = pick(await runtime.append(tokens), temperature);
        if (made.length === 0) first = performance.now();
        made.push(next);
        if (ends.has(next)) { reason = "end"; break; }
        tokens.push(next);
        postMessage({ type: "piece", text: stream.push(next), held: tokens.length });
        await turn();
        if (stopped) { reason = "stopped"; break; }
    }
    const rest = stream.finish();
    if (rest) postMessage({ type: "piece", text: rest, held: tokens.length });
    const seconds = (performance.now() - first) / 1000;
    postMessage({
        type: "done", reason, ids: made, held: tokens.length,
        left: all.length > room ? all.length - room : 0,
        firstTokenMs: first - begin,
        tokensPerSecond: made.length > 1 ? (made.length - 1) / seconds : null,
    });
}

function turn() {
    return new Promise((resolve) => {
        turns.port1.onmessage = resolve;
        turns.port2.postMessage(null);
    });
}
