// A caller of the sidecar in Node.js (18 or later), without any package.
//
//   node scion-client.mjs memorize "never descale the kettle with vinegar"
//   node scion-client.mjs arbitrate "moved to Ghent" "lives in Leiden" "has a dog"
//
// SCION_URL and SCION_API_KEY are read from the environment.

import { pathToFileURL } from "node:url";

const AGAIN = new Set([408, 429, 502, 503, 504]);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Scion {
  constructor({ url = process.env.SCION_URL ?? "http://127.0.0.1:8765", apiKey = process.env.SCION_API_KEY, retries = 4, timeoutMs = 30000 } = {}) {
    Object.assign(this, { url, apiKey, retries, timeoutMs });
  }

  /** Any typed route. With deadlineMs the safe default comes when the model is not done by then: degraded is true, and result_id
   *  names where the late answer will be. */
  ask(route, body, deadlineMs) {
    return this.#call("POST", `/v1/${route}`, body, deadlineMs);
  }

  classify(text, deadlineMs) {
    return this.ask("classify", { text }, deadlineMs);
  }

  memorize(text, deadlineMs) {
    return this.ask("memorize", { text }, deadlineMs);
  }

  arbitrate(text, candidates, deadlineMs) {
    const stored = candidates.map((c) => (typeof c === "string" ? { text: c } : c));
    return this.ask("arbitrate", { new: { text }, candidates: stored }, deadlineMs);
  }

  /** The late answer, once it is there. */
  async late(resultId, { seconds = 60 } = {}) {
    for (const until = Date.now() + seconds * 1000; Date.now() < until; await pause(50)) {
      const result = await this.#call("GET", `/v1/results/${resultId}`);
      if (result.state === "done") return result.response;
      if (result.state === "lost") throw new Error(`result ${resultId} is lost; ask again`);
    }
    throw new Error(`result ${resultId} was not there within ${seconds} s`);
  }

  // Asking again does no harm: answers change nothing on the server.
  async #call(method, path, body, deadlineMs) {
    const headers = { "Content-Type": "application/json" };
    if (this.apiKey) headers.Authorization = `Bearer ${this.apiKey}`;
    if (deadlineMs !== undefined) headers["X-Deadline-Ms"] = String(deadlineMs);
    const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
    for (let attempt = 0; ; attempt++) {
      let response, failure;
      try {
        response = await fetch(this.url + path, { ...options, signal: AbortSignal.timeout(this.timeoutMs) });
        const value = await response.json();
        if (response.ok) return value;
        failure = new Error(`${response.status}: ${value.error?.message}`);
      } catch (error) {
        failure = error;
      }
      if (attempt >= this.retries || (response && !AGAIN.has(response.status))) throw failure;
      const asked = Number(response?.headers.get("retry-after") ?? 0) * 1000;
      await pause(Math.max(asked, Math.random() * 100 * 2 ** attempt));
    }
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [job, text, ...candidates] = process.argv.slice(2);
  if (!["classify", "memorize", "arbitrate"].includes(job) || !text) {
    console.error("usage: node scion-client.mjs classify|memorize TEXT, or arbitrate NEW STORED...");
    process.exit(2);
  }
  const scion = new Scion();
  const answer = job === "arbitrate" ? await scion.arbitrate(text, candidates) : await scion[job](text);
  console.log(JSON.stringify(answer.result_id ? await scion.late(answer.result_id) : answer));
}
