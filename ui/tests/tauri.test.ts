import { beforeEach, expect, test, vi } from "vitest";
import type { Event, WriteEvent } from "../src/api/bindings";
import { WindowTransport } from "../src/api/tauri";
import { AT, makeResult } from "./fixtures";

type Sent = { channel?: { onmessage: (batch: unknown[]) => void } } & Record<string, unknown>;
const shell = vi.hoisted(() => ({ invoke: (_name: string, _input: Sent): Promise<unknown> => Promise.resolve(null), asked: [] as { name: string; input: Sent }[] }));

vi.mock("@tauri-apps/api/core", () => ({
	Channel: class {
		onmessage = () => undefined;
	},
	invoke: (name: string, input: Sent) => {
		shell.asked.push({ name, input });
		return shell.invoke(name, input);
	},
}));

const started: WriteEvent = { event: "started", generation_id: "gen_1", n: 1, seed: 7, notices: [] };
const result = makeResult(["Hello."]);

beforeEach(() => {
	shell.asked.length = 0;
	shell.invoke = () => Promise.resolve(null);
});

test("a call goes through one command, and its refusal is a failure", async () => {
	shell.invoke = (_name, { name }) => (name === "status" ? Promise.resolve({ version: "1" }) : Promise.reject({ code: "conflict", message: "One runs already.", hint: null }));
	const window = new WindowTransport();
	expect(await window.call("status", {})).toEqual({ version: "1" });
	expect(shell.asked[0]).toEqual({ name: "call", input: { name: "status", input: {} } });
	await expect(window.call("train", { recipe: "soft_prompt" })).rejects.toMatchObject({ code: "conflict", message: "One runs already." });
});

test("batches of a write stream are passed on one by one", async () => {
	shell.invoke = async (_name, { channel }) => {
		channel?.onmessage([started, { event: "token", index: 0, text: "Hel" }]);
		channel?.onmessage([{ event: "token", index: 0, text: "lo." }, { event: "chosen", result }]);
		return result;
	};
	const seen: string[] = [];
	await new WindowTransport().write({ prompt: "Hi" }, ({ event }) => seen.push(event));
	expect(seen).toEqual(["started", "token", "token", "chosen"]);
});

test("a reply that overtakes the last batch brings the vote, and only once", async () => {
	let late: (batch: unknown[]) => void = () => undefined;
	shell.invoke = async (_name, { channel }) => {
		late = (batch) => channel?.onmessage(batch);
		late([started]);
		return result;
	};
	const seen: string[] = [];
	await new WindowTransport().write({ prompt: "Hi" }, ({ event }) => seen.push(event));
	late([{ event: "chosen", result }]);
	expect(seen).toEqual(["started", "chosen"]);
});

test("a stop before the first event is remembered until the generation has a name", async () => {
	let stop: () => void = () => undefined;
	shell.invoke = (name, { channel }) => {
		if (name === "call") return Promise.resolve({ ok: true });
		return new Promise((resolve) => {
			stop = () => {
				channel?.onmessage([started]);
				resolve(result);
			};
		});
	};
	const stopper = new AbortController();
	const written = new WindowTransport().write({ prompt: "Hi" }, () => undefined, stopper.signal);
	stopper.abort();
	expect(shell.asked.some(({ name }) => name === "call")).toBe(false);
	stop();
	await written;
	expect(shell.asked.at(-1)).toEqual({ name: "call", input: { name: "cancel_write", input: { generation_id: "gen_1" } } });
});

test("events arrive until the subscription ends", async () => {
	let send: (batch: Event[]) => void = () => undefined;
	shell.invoke = async (_name, { channel }) => {
		send = (batch) => channel?.onmessage(batch);
	};
	const seen: unknown[] = [];
	const states: string[] = [];
	const end = new WindowTransport().subscribe(
		({ seq }) => seen.push(seq),
		(state) => states.push(state),
	);
	await vi.waitFor(() => expect(states).toEqual(["connecting", "live"]));
	send([
		{ seq: 1, at: AT, change: "draft_saved" },
		{ seq: 2, at: AT, change: "draft_saved" },
	]);
	end();
	send([{ seq: 3, at: AT, change: "draft_saved" }]);
	expect(seen).toEqual([1, 2]);
});

test("files are saved and folders chosen by the shell", async () => {
	shell.invoke = async (name) => (name === "open_folder_dialog" ? null : "/home/ada/story.txt");
	const window = new WindowTransport();
	expect(await window.saveText("story.txt", "Hello.")).toBe("/home/ada/story.txt");
	expect(await window.chooseFolder(), "a changed mind").toBeNull();
	expect(shell.asked[0]).toEqual({ name: "save_text", input: { fileName: "story.txt", text: "Hello." } });
});
