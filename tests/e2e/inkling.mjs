// The app as a person meets it: by what stands on the controls, never by what they are made of.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Driver } from "./driver.mjs";

const here = dirname(fileURLToPath(import.meta.url));
export const root = resolve(here, "../..");
export const binary = process.env.INKLING_DESKTOP ?? join(root, "target/debug/inkling-desktop");
export const output = join(here, "output");

/** The window over one data folder. It may be closed, killed and opened again. */
export class Inkling {
	#driver = null;
	#environment;
	home;

	constructor(home, environment = {}) {
		this.home = home;
		// Nothing of the person who runs the tests is read or written.
		this.#environment = {
			INKLING_HOME: join(home, "data"),
			INKLING_SAVE_DIR: join(home, "saved"),
			XDG_CONFIG_HOME: join(home, "config"),
			XDG_DATA_HOME: join(home, "share"),
			XDG_CACHE_HOME: join(home, "cache"),
			LANG: "C.UTF-8",
			// The app switches WebKit's DMABUF renderer off where nobody said otherwise; without it WebKitGTK 2.50 never
			// answers a WebDriver screenshot. So the tests say otherwise.
			WEBKIT_DISABLE_DMABUF_RENDERER: "0",
			...environment,
		};
		mkdirSync(join(home, "saved"), { recursive: true });
	}

	get driver() {
		return this.#driver;
	}

	/** Opens the window. Answers with the milliseconds until it can be used. */
	async open({ ready = true } = {}) {
		const started = Date.now();
		this.#driver = await Driver.open(binary, this.#environment);
		if (ready) await this.until("the window to be ready", () => this.has('[data-ready="true"]'), 20_000);
		return Date.now() - started;
	}

	/** Closes the window and waits until its process has ended by itself. */
	async close() {
		const pid = this.pid();
		await this.#driver.close();
		await until("the process to end after its window", () => !isAlive(pid), 30_000);
		this.#driver.kill();
	}

	/** SIGTERM, as when the person's session ends. Waits until the process has ended by itself. */
	async terminate() {
		const pid = this.pid();
		process.kill(pid, "SIGTERM");
		await until("the process to end after SIGTERM", () => !isAlive(pid), 30_000);
		this.#driver.kill();
	}

	/** kill -9, as a power cut would. */
	async kill() {
		const pid = this.pid();
		process.kill(pid, "SIGKILL");
		await until("the process to be gone", () => !isAlive(pid), 5_000);
		this.#driver.kill();
	}

	/** For the end of a test, whatever happened: ends the app, its web processes and the driver. */
	async abandon() {
		const pids = processesOver(this.#environment);
		for (const pid of pids) process.kill(pid, "SIGKILL");
		await until("the processes to be gone", () => !pids.some(isAlive), 5_000);
	}

	pid() {
		const [pid] = processesOver(this.#environment).filter((one) => readlinkSync(`/proc/${one}/exe`) === binary);
		assert.ok(pid, "the app is running");
		return pid;
	}

	/** Any call of the table, through the same command that the page uses. */
	call(name, input = {}) {
		return this.#driver.runAsync("(name, input) => window.__TAURI_INTERNALS__.invoke('call', { name, input })", name, input);
	}

	async go(view) {
		await this.press("link", view);
		await this.until(`the view ${view}`, () =>
			this.#driver.run("(view) => [...document.querySelectorAll('nav a[aria-current=page]')].some((a) => a.textContent.trim() === view)", view),
		);
	}

	/** Clicks the button, link or tab that a person would name so. */
	async press(role, name) {
		await this.#click(`${role} “${name}”`, () => this.find(role, name));
	}

	/** Clicks where a person would, after scrolling there. A control that moved or was drawn anew meanwhile is looked for again, as a person would. */
	async #click(what, find) {
		await this.until(what, async () => {
			const element = await find();
			if (!element) return false;
			try {
				await this.#driver.run("(element) => element.scrollIntoView({ block: 'center', behavior: 'instant' })", element);
				await this.#driver.click(element);
				return true;
			} catch (error) {
				if (/stale element|click intercepted|not interactable/.test(error.message)) return false;
				throw error;
			}
		});
	}

	/** The first visible, enabled control with this role and accessible name, or null. */
	find(role, name) {
		return this.#driver.run(FIND, role, name);
	}

	has(selector) {
		return this.#driver.run("(selector) => document.querySelector(selector) !== null", selector);
	}

	text(selector = "body") {
		return this.#driver.run("(selector) => document.querySelector(selector)?.innerText ?? ''", selector);
	}

	async fill(name, text) {
		const box = await this.until(`textbox “${name}”`, () => this.find("textbox", name));
		await this.#driver.run("(box) => { box.focus(); box.select(); }", box);
		await this.#driver.type(box, text === "" ? "\uE017" : text);
	}

	async slide(name, value) {
		const slider = await this.until(`slider “${name}”`, () => this.find("slider", name));
		await this.#driver.run(
			`(slider, value) => {
				slider.value = String(value);
				slider.dispatchEvent(new Event("input", { bubbles: true }));
				slider.dispatchEvent(new Event("change", { bubbles: true }));
			}`,
			slider,
			value,
		);
	}

	/** Presses Write and waits for the vote. Answers with the milliseconds to the first visible text. */
	async write(prompt) {
		if (prompt !== undefined) await this.fill("Prompt", prompt);
		const before = await this.#generation();
		const started = Date.now();
		await this.startWriting();
		await this.until("the first words", async () => (await this.text(".story")).trim().length > 20, 20_000, 10);
		const first = Date.now() - started;
		await this.until(
			"the vote",
			async () => (await this.has('[data-testid="sheet"][data-state="done"]')) && (await this.#generation()) !== before,
			120_000,
		);
		return first;
	}

	/** Presses Write and waits until the sheet is the new text's: what stood there before must not pass for it. */
	async startWriting() {
		const before = await this.#generation();
		await this.press("button", "Write");
		await this.until("the sheet to be cleared", async () => (await this.#generation()) !== before || (await this.has('[data-testid="sheet"][data-state="writing"]')), 10_000, 10);
	}

	/** The id of the generation on the sheet; null while it is written. */
	#generation() {
		return this.#driver.run("() => document.querySelector('[data-testid=sheet]')?.dataset.generation ?? null");
	}

	/** Tabs of the candidates, by their words. */
	tabs() {
		return this.#driver.run("() => [...document.querySelectorAll('[role=tablist][aria-label=Candidates] [role=tab]')].map((tab) => tab.textContent.trim())");
	}

	/** Opens the candidate in this place, from 0. */
	async openTab(index) {
		await this.#click(`tab ${index + 1}`, async () => {
			const [tab] = await this.#driver.run("(index) => [document.querySelectorAll('[role=tablist][aria-label=Candidates] [role=tab]')[index] ?? null]", index);
			return tab;
		});
	}

	async screenshot(name) {
		mkdirSync(output, { recursive: true });
		writeFileSync(join(output, `${name}.png`), await this.#driver.screenshot());
	}

	/** As `until`, with what the page shows in the error. */
	async until(what, check, milliseconds = 10_000, every = 100) {
		try {
			return await until(what, check, milliseconds, every);
		} catch (error) {
			await this.screenshot(`failed-${what.replace(/\W+/g, "-").slice(0, 40)}`).catch(() => {});
			const shown = await this.text().catch((reason) => `(no page: ${reason.message})`);
			throw new Error(`${error.message}\nThe window shows:\n${shown.slice(0, 3_000)}`, { cause: error });
		}
	}
}

/** Waits until `check` answers something true, and answers with it. */
export async function until(what, check, milliseconds = 10_000, every = 100) {
	const deadline = Date.now() + milliseconds;
	for (;;) {
		const answer = await check();
		if (answer) return answer;
		if (Date.now() > deadline) throw new Error(`waited ${milliseconds / 1000} s for ${what}`);
		await sleep(every);
	}
}

/** Processes started for this window, by the folders in their environment. */
function processesOver({ INKLING_HOME, XDG_CONFIG_HOME }) {
	return readdirSync("/proc")
		.filter((name) => /^\d+$/.test(name))
		.map(Number)
		.filter((pid) => {
			try {
				const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
				return environment.includes(`INKLING_HOME=${INKLING_HOME}`) && environment.includes(`XDG_CONFIG_HOME=${XDG_CONFIG_HOME}`);
			} catch {
				return false;
			}
		});
}

function isAlive(pid) {
	try {
		return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
	} catch {
		return false;
	}
}

// Names as assistive technology computes them for the controls that we use: label, aria-label, own words. What is
// hidden from it (key hints, icons) is not part of a name; a count after the name is allowed.
const FIND = `(role, name) => {
	const wanted = {
		button: "button:not([role])",
		link: "a[href], [role=link]",
		tab: "[role=tab]",
		menuitem: "[role=menuitem]",
		switch: "[role=switch], input[type=checkbox]",
		slider: "input[type=range]",
		textbox: "textarea, input:not([type]), input[type=text], input[type=search], input[type=number]",
		combobox: "select",
	}[role];
	const words = (node) => {
		if (node.nodeType === Node.TEXT_NODE) return node.textContent;
		if (node.nodeType !== Node.ELEMENT_NODE || node.getAttribute("aria-hidden") === "true") return "";
		return [...node.childNodes].map(words).join("");
	};
	const nameOf = (element) => {
		const by = element.getAttribute("aria-labelledby");
		if (by) return by.split(" ").map((id) => words(document.getElementById(id) ?? document.createTextNode(""))).join(" ");
		return element.getAttribute("aria-label") ?? (element.labels?.length ? [...element.labels].map(words).join(" ") : words(element));
	};
	const usable = (element) => !element.disabled && element.getAttribute("aria-disabled") !== "true" && element.getClientRects().length > 0;
	const named = [...document.querySelectorAll(wanted)].filter(usable).map((element) => [element, nameOf(element).replace(/\\s+/g, " ").trim()]);
	return (named.find(([, own]) => own === name) ?? named.find(([, own]) => own.startsWith(name + " ")) ?? [null])[0];
}`;
