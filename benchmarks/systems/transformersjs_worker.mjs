// Greedy decoding by transformers.js: a line of JSON in, {texts, count}, a line out, the new tokens.
//
//     node transformersjs_worker.mjs NODE_MODULES FOLDER_OF_MODELS DTYPE THREADS

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, models, dtype, threads] = process.argv.slice(2);
const entry = `${modules}/@huggingface/transformers/dist/transformers.node.mjs`;
const { AutoModelForCausalLM, Tensor, env } = await import(pathToFileURL(entry));

env.allowRemoteModels = false;
env.localModelPath = `${models}/`;
const model = await AutoModelForCausalLM.from_pretrained("model", {
    dtype,
    device: "cpu",
    session_options: { intraOpNumThreads: Number(threads) },
});

function tensor(rows, value) {
    const flat = BigInt64Array.from(rows.flat(), value);
    return new Tensor("int64", flat, [rows.length, rows[0].length]);
}

for await (const line of createInterface({ input: process.stdin })) {
    const { texts, count } = JSON.parse(line);
    const made = await model.generate({
        inputs: tensor(texts, BigInt),
        attention_mask: tensor(texts, () => 1n),
        max_new_tokens: count,
        min_new_tokens: count,
        do_sample: false,
    });
    const rows = made.tolist().map((row) => row.slice(texts[0].length).map(Number));
    process.stdout.write(`${JSON.stringify(rows)}\n`);
}
