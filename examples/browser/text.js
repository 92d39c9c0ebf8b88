// Text from token ids as they come, and tokens from logits.

// Yields whole characters as soon as they are whole: a token may end in the middle of one.
export class TextStream {
    // `decode` makes text of ids; `behind` is the last id of the text that is gone on with, if any.
    constructor(decode, behind) {
        this.decode = decode;
        this.keep(behind === undefined ? [] : [behind]);
    }

    push(id) {
        this.ids.push(id);
        const text = this.decode(this.ids);
        if (text.endsWith("\uFFFD")) return ""; // half a character
        const piece = text.slice(this.known);
        this.keep([id]);
        return piece;
    }

    // What is left of a character that never became whole.
    finish() {
        return this.decode(this.ids).slice(this.known);
    }

    keep(ids) {
        this.ids = ids;
        this.known = ids.length ? this.decode(ids).length : 0;
    }
}

// The likeliest token at temperature 0; otherwise one of the likeliest `topK`, by its probability.
export function pick(logits, temperature, topK = 50, random = Math.random) {
    if (temperature === 0) return best(logits);
    const ids = likeliest(logits, topK);
    const most = logits[ids[0]];
    const weights = ids.map((id) => Math.exp((logits[id] - most) / temperature));
    let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
    const place = weights.findIndex((weight) => (left -= weight) < 0);
    return ids[place < 0 ? 0 : place];
}

function best(logits) {
    let found = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id] > logits[found]) found = id;
    return found;
}

// The ids of the `count` largest logits, largest first: one pass, most tokens cost a comparison.
function likeliest(logits, count) {
    const ids = [];
    for (let id = 0; id < logits.length; id++) {
        if (ids.length === count && logits[id] <= logits[ids.at(-1)]) continue;
        let place = ids.length;
        while (place > 0 && logits[ids[place - 1]] < logits[id]) place--;
        ids.splice(place, 0, id);
        if (ids.length > count) ids.pop();
    }
    return ids;
}
