import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Event, WriteEvent } from "../src/api/bindings";
import { Failure } from "../src/api/errors";
import { HttpTransport, takeToken } from "../src/api/http";
import { AT, makeResult } from "./fixtures";

const started: WriteEvent = { event: "started", generation_id: "gen_1", n: 1, seed: 7, notices: [] };
const chosen: WriteEvent = { event: "chosen", result: makeResult(["Hello."]) };
let requests: { url: string; init: RequestInit }[];
let answer: (url: string, init: RequestInit) => Response | Promise<Response>;

beforeEach(() => {
	requests = [];
	answer = () => Response.json({ ok: true });
	vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
		requests.push({ url, init });
		return Promise.resolve(answer(url, init));
	});
});

afterEach(() => vi.useRealTimers());

const last = () => requests.at(-1) as { url: string; init: RequestInit };
const header = (name: string) => new Headers(last().init.headers).get(name);

test("a GET puts its fields into path and query, and leaves out what is null", async () => {
	await new HttpTransport("secret").call("run_metrics", { run_id: "run/1", after: 40 });
	expect(last().url).toBe("/api/v1/runs/run%2F1/metrics?after=40");
	await new HttpTransport("secret").call("generations", { limit: 40, before: null, search: "old mill" });
	expect(last().url).toBe("/api/v1/generations?limit=40&search=old+mill");
	expect(header("Authorization")).toBe("Bearer secret");
	expect(last().init.body).toBeUndefined();
});

test("a POST sends as JSON what is not in its path", async () => {
	await new HttpTransport("secret").call("decide", { run_id: "run_1", decision: "keep" });
	expect(last().url).toBe("/api/v1/runs/run_1/decide");
	expect(last().init.method).toBe("POST");
	expect(JSON.parse(String(last().init.body))).toEqual({ decision: "keep" });
	expect(header("Content-Type")).toBe("application/json");
});

test("a refusal becomes a failure with its code, hint and faulty fields", async () => {
	answer = () => Response.json({ code: "invalid_input", message: "No.", hint: "Try 4.", detail: [{ field: "n", message: "n is 99" }] }, { status: 400 });
	const failure = await new HttpTransport(null).call("status", {}).catch((thrown: unknown) => thrown);
	expect(failure).toBeInstanceOf(Failure);
	expect(failure).toMatchObject({ code: "invalid_input", hint: "Try 4.", detail: [{ field: "n" }], place: "inline" });
});

test("a server that does not answer, or answers no JSON, is said so", async () => {
	answer = () => Promise.reject(new TypeError("fetch failed"));
	await expect(new HttpTransport(null).call("status", {})).rejects.toMatchObject({ code: "unreachable" });
	answer = () => new Response("<html>", { status: 502 });
	await expect(new HttpTransport(null).call("status", {})).rejects.toMatchObject({ code: "internal", message: "The server answered 502." });
});

test("the token leaves the address bar and stays for this tab", () => {
	history.replaceState(null, "", "/#token=abc%2B1");
	expect(takeToken()).toBe("abc+1");
	expect(location.hash).toBe("");
	expect(takeToken(), "after a reload").toBe("abc+1");
	sessionStorage.clear();
	expect(takeToken()).toBeNull();
});

test("a write stream arrives in order, whatever its chunks", async () => {
	const events: WriteEvent[] = [started, { event: "token", index: 0, text: "Hel" }, { event: "token", index: 0, text: "lo." }, chosen];
	answer = () => sse(events.map((event) => `event: ${event.event}\ndata: ${JSON.stringify(event)}\n\n`).join(""), 7);
	const seen: WriteEvent[] = [];
	await new HttpTransport(null).write({ prompt: "Hi" }, (event) => seen.push(event));
	expect(seen).toEqual(events);
});

test("an error inside a write stream is thrown, and so is a stream that just ends", async () => {
	answer = () => sse(`event: error\ndata: ${JSON.stringify({ code: "out_of_memory", message: "Too little memory.", hint: null })}\n\n`);
	await expect(new HttpTransport(null).write({ prompt: "Hi" }, () => undefined)).rejects.toMatchObject({ code: "out_of_memory" });
	answer = () => sse(`event: started\ndata: ${JSON.stringify(started)}\n\n`);
	await expect(new HttpTransport(null).write({ prompt: "Hi" }, () => undefined)).rejects.toMatchObject({ code: "internal" });
});

test("a stop asks the backend to end the generation and keeps what it had written", async () => {
	let push: (event: WriteEvent) => void = () => undefined;
	answer = (url) => {
		if (!url.endsWith("/write/stream")) {
			push(chosen);
			return Response.json({ ok: true });
		}
		return new Response(
			new ReadableStream({
				start(controller) {
					push = (event) => {
						controller.enqueue(new TextEncoder().encode(`event: ${event.event}\ndata: ${JSON.stringify(event)}\n\n`));
						if (event.event === "chosen") controller.close();
					};
					push(started);
				},
			}),
		);
	};
	const stopper = new AbortController();
	const seen: string[] = [];
	await new HttpTransport(null).write(
		{ prompt: "Hi" },
		({ event }) => {
			seen.push(event);
			if (event === "started") stopper.abort();
		},
		stopper.signal,
	);
	expect(requests.map(({ url }) => url)).toContain("/api/v1/generations/gen_1/cancel");
	expect(seen).toEqual(["started", "chosen"]);
});

test("events are followed again after a break, from the last one that was seen", async () => {
	vi.useFakeTimers();
	const event: Event = { seq: 12, at: AT, change: "draft_saved" };
	answer = () => (requests.length === 1 ? sse(`id: 12\ndata: ${JSON.stringify(event)}\n\n`) : new Promise<Response>(() => undefined));
	const seen: Event[] = [];
	const states: string[] = [];
	const end = new HttpTransport("secret").subscribe(
		(one) => seen.push(one),
		(state) => states.push(state),
	);
	await vi.advanceTimersByTimeAsync(100);
	expect(seen).toEqual([event]);
	expect(states).toEqual(["connecting", "live", "lost"]);
	await vi.advanceTimersByTimeAsync(600);
	expect(requests).toHaveLength(2);
	expect(header("Last-Event-ID")).toBe("12");
	end();
});

test("a server that is down is asked less and less often", async () => {
	vi.useFakeTimers();
	answer = () => Promise.reject(new TypeError("down"));
	const end = new HttpTransport(null).subscribe(
		() => undefined,
		() => undefined,
	);
	await vi.advanceTimersByTimeAsync(60_000);
	end();
	const tries = requests.length;
	expect(tries, "0.5, 1, 2, 4, 8, 15, 15 … seconds").toBeLessThan(12);
	await vi.advanceTimersByTimeAsync(60_000);
	expect(requests.length, "none after the end").toBe(tries);
});

function sse(text: string, chunk = 1000): Response {
	const bytes = new TextEncoder().encode(text);
	return new Response(
		new ReadableStream({
			start(controller) {
				for (let at = 0; at < bytes.length; at += chunk) controller.enqueue(bytes.slice(at, at + chunk));
				controller.close();
			},
		}),
	);
}
