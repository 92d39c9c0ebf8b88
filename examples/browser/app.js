// The page: what you write, what the model writes, and what was measured of it.

import { added, edited, plain } from "./ink.js";

const OPENINGS = ["Once upon a time", "The wolf", "It was a dark night, and", "“Who is there?” cried"];
const $ = (id) => document.getElementById(id);
const text = $("text"), write = $("write");

let worker;
let state = "loading"; // ready, writing, failed
let parts = []; // who wrote what: ink.js
let before = []; // what stood there before each answer, to take it back
let pending = ""; // written by the model, not shown yet
let held = 0, context = 0;

function start() {
    state = "loading";
    $("failure").hidden = true;
    $("loading").hidden = false;
    worker = new Worker(`worker.js${location.search}`, { type: "module" });
    worker.onmessage = ({ data }) => heard[data.type](data);
    worker.onerror = () => heard.error({ message: "the page’s files are not all there: run make browser, and serve what it makes" });
    refresh();
}

const heard = {
    progress({ loaded, total }) {
        $("progress").value = loaded / total;
        $("loading-text").textContent = `Fetching the model, ${megabytes(loaded)} of ${megabytes(total)}`;
    },
    ready(facts) {
        state = "ready";
        context = facts.context;
        $("loading").hidden = true;
        $("size").textContent = megabytes(facts.bytes);
        $("name").textContent = `${facts.name}, ${facts.variant}${facts.threads > 1 ? `, ${facts.threads} threads` : ""}`;
        $("loss").textContent = `${facts.loss < 0 ? "−" : "+"}${Math.abs(facts.loss * 100).toFixed(2)}%`;
        refresh();
    },
    piece({ text, held: tokens }) {
        if (!pending) requestAnimationFrame(show);
        pending += text;
        held = tokens;
    },
    done(result) {
        show();
        state = "ready";
        held = result.held;
        if (result.tokensPerSecond) $("speed").textContent = Math.round(result.tokensPerSecond);
        $("first").textContent = result.firstTokenMs.toFixed(result.firstTokenMs < 10 ? 1 : 0);
        say(`${result.ids.length} tokens: ${REASONS[result.reason]}.${result.left ? ` Only the newest part of the text was read: ${result.left} tokens were left out.` : ""}`);
        refresh();
        document.dispatchEvent(new CustomEvent("written", { detail: result }));
    },
    error({ message }) {
        state = "failed";
        worker.terminate();
        $("loading").hidden = true;
        $("failure").hidden = false;
        $("failure-text").textContent = message[0].toUpperCase() + message.slice(1);
        refresh();
    },
};

const REASONS = {
    end: "the text is at its end",
    length: "as long as was asked for",
    stopped: "stopped",
    context: "the model’s memory is full; writing on, it forgets how the text began",
};

function writeOn() {
    if (state !== "ready") return;
    state = "writing";
    before.push(parts);
    say("Writing");
    worker.postMessage({
        type: "generate",
        text: plain(parts),
        temperature: Number($("temperature").value),
        maxNewTokens: Number($("length").value),
    });
    refresh();
}

function stop() {
    if (state === "writing") worker.postMessage({ type: "stop" });
}

function takeBack() {
    if (state === "writing" || !before.length) return;
    parts = before.pop();
    say("Taken back");
    refresh();
    text.focus();
}

// At most once a frame, however fast the model is.
function show() {
    if (!pending) return;
    parts = added(parts, pending);
    pending = "";
    refresh();
    const below = text.getBoundingClientRect().bottom + 24 - $("desk").getBoundingClientRect().top;
    if (below > 0) scrollBy({ top: below });
}

function refresh() {
    const whole = plain(parts), writing = state === "writing";
    if (text.value !== whole) text.value = whole;
    text.readOnly = writing;
    $("ink").replaceChildren(...parts.map(inked), whole.endsWith("\n") && !writing ? "\u200b" : "");
    $("ink").classList.toggle("writing", writing);
    $("sheet").setAttribute("aria-busy", writing);
    write.textContent = writing ? "Stop" : "Write on";
    write.classList.toggle("stop", writing);
    write.disabled = state === "loading" || state === "failed";
    $("back").disabled = writing || !before.length;
    $("openings").hidden = whole !== "";
    $("temperature-value").textContent = Number($("temperature").value).toFixed(2);
    $("temperature-means").textContent = meaning(Number($("temperature").value));
    $("length-value").textContent = $("length").value;
    for (const dial of [$("temperature"), $("length")]) {
        dial.style.setProperty("--filled", `${(100 * (dial.value - dial.min)) / (dial.max - dial.min)}%`);
    }
    if (context) {
        $("held").value = held / context;
        $("held-text").textContent = held ? `The model’s memory: ${held} of ${context} tokens` : `The model’s memory: ${context} tokens`;
    }
}

function inked(part) {
    const span = document.createElement("span");
    span.textContent = part.text;
    if (part.model) span.className = "model";
    return span;
}

function meaning(temperature) {
    if (temperature === 0) return "always the likeliest token";
    return temperature < 0.6 ? "steady" : temperature <= 1 ? "lively" : "wild";
}

function say(words) {
    $("status").textContent = words;
}

function megabytes(bytes) {
    return `${(bytes / 1e6).toFixed(1)} MB`;
}

text.addEventListener("input", () => {
    parts = edited(parts, text.value);
    refresh();
});
write.addEventListener("click", () => (state === "writing" ? stop() : writeOn()));
$("back").addEventListener("click", takeBack);
$("again").addEventListener("click", start);
for (const id of ["temperature", "length"]) $(id).addEventListener("input", refresh);
document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        writeOn();
    }
    if (event.key === "Escape") stop();
});
for (const opening of OPENINGS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = opening;
    button.addEventListener("click", () => {
        parts = edited(parts, opening);
        refresh();
        text.focus();
        text.setSelectionRange(opening.length, opening.length);
        writeOn();
    });
    $("openings").append(button);
}
if (/Mac|iP/.test(navigator.platform)) $("modifier").textContent = "⌘";
start();
