// node complete.js FOLDER PROMPT [TOKENS] [VARIANT]: go on with a text, always by the likeliest token.
import { readFileSync } from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "onnxruntime-node";

const [folder, prompt, count = 40, variant = "int8"] = process.argv.slice(2);
const json = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
const { n_head, n_embd, n_positions, eos_token_id } = json("config.json");
const tokenizer = new Tokenizer(json("tokenizer.json"), json("tokenizer_config.json"));
const session = await InferenceSession.create(`${folder}/${json("pocketgpt.json").variants[variant].files[0].path}`, { logSeverityLevel: 3 });
const int64 = (numbers) => new Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
const ids = tokenizer.encode(prompt).ids, cache = {}, kept = {}, mask = int64(Array(n_positions).fill(0));
for (const name of session.inputNames.filter((name) => name.startsWith("past"))) { // past and present: one buffer, appended to in place
    cache[name] = new Tensor("float32", new Float32Array(n_positions * n_embd), [1, n_head, n_positions, n_embd / n_head]);
    kept[name.replace("past_key_values", "present")] = cache[name];
}
for (let held = 0, shown = 0, made = 0; made < count && ids.length < n_positions; made++) {
    const places = ids.map((_, place) => place).slice(held);
    for (const place of places) mask.data[place] = 1n;
    const { logits } = await session.run({ input_ids: int64(ids.slice(held)), position_ids: int64(places), attention_mask: mask, ...cache }, { logits: null, ...kept });
    held = ids.push(logits.data.reduce((best, logit, id, all) => (logit > all[best] ? id : best), 0)) - 1;
    if (ids.at(-1) === eos_token_id) break;
    const text = tokenizer.decode(ids, { clean_up_tokenization_spaces: false });
    if (!text.endsWith("\uFFFD")) process.stdout.write(text.slice(shown, (shown = text.length))); // else half a character
}
process.stdout.write("\n");
