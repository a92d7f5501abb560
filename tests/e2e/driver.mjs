// A small W3C WebDriver client: only what these tests need, so that they need no packages.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";

/** One WebKitWebDriver with one window of the app; the environment reaches the app through it. */
export class Driver {
	/** Starts the driver and through it the app. */
	static async open(binary, environment) {
		const port = await freePort();
		const child = spawn("WebKitWebDriver", [`--port=${port}`], {
			env: { ...process.env, ...environment, TAURI_WEBVIEW_AUTOMATION: "true" },
			stdio: ["ignore", "ignore", process.env.E2E_LOUD ? "inherit" : "ignore"],
		});
		const driver = new Driver(port, child);
		try {
			await driver.#start(binary);
		} catch (error) {
			// A driver that made no session would keep its port and the half-started app.
			driver.kill();
			throw error;
		}
		return driver;
	}

	#port;
	#child;
	#session = "";

	constructor(port, child) {
		this.#port = port;
		this.#child = child;
	}

	async #start(binary) {
		const deadline = Date.now() + 10_000;
		for (;;) {
			try {
				if ((await this.#send("GET", "/status")).ready) break;
			} catch (error) {
				if (Date.now() > deadline) throw error;
			}
			await sleep(50);
		}
		const capabilities = { alwaysMatch: { "webkitgtk:browserOptions": { binary, args: [] } } };
		const answer = await this.#send("POST", "/session", { capabilities });
		this.#session = `/session/${answer.sessionId}`;
		await this.#send("POST", `${this.#session}/timeouts`, { script: 60_000 });
	}

	/** Runs a function of the page's world. Arguments and the answer are JSON, or elements from an earlier answer. */
	run(script, ...args) {
		return this.#send("POST", `${this.#session}/execute/sync`, { script: `return (${script}).apply(null, arguments)`, args });
	}

	/** As `run`, for an asynchronous function. */
	async runAsync(script, ...args) {
		const answer = await this.#send("POST", `${this.#session}/execute/async`, {
			script: `const done = arguments[arguments.length - 1]; const rest = Array.from(arguments).slice(0, -1);
				(${script}).apply(null, rest).then((value) => done({ value }), (error) => done({ error: typeof error === "string" ? error : (error?.message ?? JSON.stringify(error)) }))`,
			args,
		});
		if (answer.error !== undefined) throw new Error(answer.error);
		return answer.value;
	}

	click(element) {
		return this.#send("POST", `${this.#session}/element/${element[ELEMENT]}/click`, {});
	}

	type(element, text) {
		return this.#send("POST", `${this.#session}/element/${element[ELEMENT]}/value`, { text });
	}

	/** Presses keys of the keyboard where the focus is; codes as in the WebDriver standard. */
	async press(...keys) {
		const actions = [...keys.map((value) => ({ type: "keyDown", value })), ...[...keys].reverse().map((value) => ({ type: "keyUp", value }))];
		await this.#send("POST", `${this.#session}/actions`, { actions: [{ type: "key", id: "keyboard", actions }] });
	}

	resize(width, height) {
		return this.#send("POST", `${this.#session}/window/rect`, { x: 0, y: 0, width, height });
	}

	/** A PNG of the window as it is after two frames: the first may still show the old state. */
	async screenshot() {
		await this.runAsync("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))");
		return Buffer.from(await this.#send("GET", `${this.#session}/screenshot`), "base64");
	}

	/** Closes the window as a person does, and the driver after it. */
	async close() {
		try {
			await this.#send("DELETE", `${this.#session}/window`);
		} catch {
			// The app may be gone already; then there is nothing to close.
		}
	}

	kill() {
		this.#child.kill("SIGKILL");
	}

	async #send(method, path, body) {
		const response = await fetch(`http://127.0.0.1:${this.#port}${path}`, {
			method,
			headers: { "content-type": "application/json" },
			body: body === undefined ? undefined : JSON.stringify(body),
			// A page that hangs must fail the test that asked, not hold up the rest.
			signal: AbortSignal.timeout(90_000),
		});
		const { value } = await response.json();
		if (!response.ok) throw new Error(`${method} ${path}: ${value?.error} ${value?.message}`);
		return value;
	}
}

function freePort() {
	return new Promise((resolve, reject) => {
		const server = createServer();
		server.once("error", reject);
		server.listen(0, "127.0.0.1", () => {
			const { port } = server.address();
			server.close(() => resolve(port));
		});
	});
}
