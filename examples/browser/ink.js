// Who wrote what: a text as parts {text, model}, in which `model` says that the model wrote it.

// The parts of a text that a person changed: what is new is theirs, the rest stays whose it was.
export function edited(parts, text) {
    const old = plain(parts);
    let begin = 0;
    while (begin < old.length && begin < text.length && old[begin] === text[begin]) begin++;
    let end = 0;
    const most = Math.min(old.length, text.length) - begin;
    while (end < most && old.at(-1 - end) === text.at(-1 - end)) end++;
    const theirs = { text: text.slice(begin, text.length - end), model: false };
    return joined([...cut(parts, 0, begin), theirs, ...cut(parts, old.length - end, old.length)]);
}

export function added(parts, text) {
    return joined([...parts, { text, model: true }]);
}

export function plain(parts) {
    return parts.map((part) => part.text).join("");
}

function cut(parts, begin, end) {
    let at = 0;
    return parts.map(({ text, model }) => {
        const piece = text.slice(Math.max(0, begin - at), Math.max(0, end - at));
        at += text.length;
        return { text: piece, model };
    });
}

function joined(parts) {
    const whole = [];
    for (const part of parts) {
        if (!part.text) continue;
        if (whole.at(-1)?.model === part.model) whole[whole.length - 1] = { text: whole.at(-1).text + part.text, model: part.model };
        else whole.push(part);
    }
    return whole;
}
