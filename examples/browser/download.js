// Files of the page's folder, with what has come so far of all of them.

export class Downloads {
    // `report(loaded, total)` is called as bytes come; `total` are the bytes expected in all.
    constructor(total, report) {
        this.total = total;
        this.loaded = 0;
        this.report = report;
    }

    // A file of a known size, whole; a server that sends another is told apart here.
    async bytes(url, size) {
        const response = await get(url);
        const whole = new Uint8Array(size);
        let filled = 0;
        await this.#read(response, (part) => {
            if (filled + part.length <= size) whole.set(part, filled);
            filled += part.length;
        });
        if (filled !== size) throw new Error(`${url} has ${filled} bytes, not ${size}: prepare the page again`);
        return whole;
    }

    // A response that is read elsewhere, counted as it comes. (The browser keeps what it compiled of a
    // WebAssembly module only if it gets the response itself.)
    async response(url) {
        const response = await get(url);
        this.#read(response.clone(), () => {}).catch(() => {}); // who reads the other half hears of it
        return response;
    }

    async #read(response, take) {
        for (const reader = response.body.getReader(); ; ) {
            const { done, value } = await reader.read();
            if (done) return;
            take(value);
            this.loaded += value.length;
            this.report(Math.min(this.loaded, this.total), this.total);
        }
    }
}

export async function json(url) {
    return (await get(url)).json();
}

async function get(url) {
    let response;
    try {
        response = await fetch(url);
    } catch {
        throw new Error(`${url} cannot be fetched: is the server still there?`);
    }
    if (!response.ok) throw new Error(`${url} is not there (${response.status}): run make browser, and serve what it makes`);
    return response;
}
