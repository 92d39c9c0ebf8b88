// What node.py asks: a line of JSON in, {what, ...}, a line out, {result} or {error}.
//
//     node worker.mjs NODE_MODULES FOLDER_OF_MODELS

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, models] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${modules}/${path}`));
const transformers = await load("@huggingface/transformers/dist/transformers.node.mjs");
const { AutoModelForCausalLM, AutoTokenizer, Tensor, env, pipeline } = transformers;
const { Tokenizer } = await load("@huggingface/tokenizers/dist/tokenizers.mjs");
env.allowRemoteModels = false;
env.localModelPath = `${models}/`;

const opened = {};
function model(folder, dtype) {
    const options = dtype ? { dtype } : {};
    return (opened[`${folder} ${dtype}`] ??= AutoModelForCausalLM.from_pretrained(folder, options));
}

const answers = {
    async dtype({ folder, dtype }) {
        return (await model(folder, dtype)).sessions.model.config.dtype;
    },
    async generate({ folder, dtype, ids, count, keep_going }) {
        const row = (value) => new Tensor("int64", BigInt64Array.from(ids, value), [1, ids.length]);
        const made = await (await model(folder, dtype)).generate({
            inputs: row(BigInt),
            attention_mask: row(() => 1n),
            max_new_tokens: count,
            min_new_tokens: keep_going ? count : 0,
            do_sample: false,
        });
        return made.tolist()[0].slice(ids.length).map(Number);
    },
    async encode({ folder, texts }) {
        const tokenizer = await AutoTokenizer.from_pretrained(folder);
        return texts.map((text) => tokenizer.encode(text));
    },
    async decode({ folder, ids }) {
        const tokenizer = await AutoTokenizer.from_pretrained(folder);
        return tokenizer.decode(ids, { skip_special_tokens: true });
    },
    async encode_alone({ files, texts }) {
        const tokenizer = new Tokenizer(...files);
        return texts.map((text) => tokenizer.encode(text).ids);
    },
    async pipeline({ folder, text, count }) {
        const generator = await pipeline("text-generation", folder, { dtype: "fp32" });
        return (await generator(text, { max_new_tokens: count }))[0].generated_text;
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const { what, ...options } = JSON.parse(line);
    let answer;
    try {
        answer = { result: await answers[what](options) };
    } catch (error) {
        answer = { error: `${error}` };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
}
