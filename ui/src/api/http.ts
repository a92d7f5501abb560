import { ROUTES } from "./bindings";
import type { Calls, Event, WriteEvent, WriteRequest } from "./bindings";
import { Failure, toFailure } from "./errors";
import { readServerEvents } from "./sse";
import { GRACE_MS, WriteStream } from "./stream";
import type { CallName, LinkState, Transport } from "./transport";

const TOKEN_KEY = "inkling.token";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** A browser on this machine: HTTP with a bearer token, server-sent events read through fetch (which can send headers). */
export class HttpTransport implements Transport {
	readonly kind = "browser";

	constructor(
		private readonly token: string | null,
		private readonly origin = "",
	) {}

	async call<N extends CallName>(name: N, input: Calls[N]["input"]): Promise<Calls[N]["output"]> {
		const { method, path } = ROUTES[name];
		const fields = { ...(input as Record<string, unknown>) };
		const filled = path.replace(/\{(\w+)\}/g, (_, field: string) => {
			const value = fields[field];
			delete fields[field];
			return encodeURIComponent(String(value));
		});
		const inQuery = method === "GET" || method === "DELETE";
		const response = await this.send(filled + (inQuery ? queryString(fields) : ""), {
			method,
			...(inQuery ? {} : { body: JSON.stringify(fields), headers: { "Content-Type": "application/json" } }),
		});
		if (response.status === 204) return { ok: true } as Calls[N]["output"];
		return (await response.json()) as Calls[N]["output"];
	}

	async write(request: WriteRequest, onEvent: (event: WriteEvent) => void, signal?: AbortSignal): Promise<void> {
		const stream = new WriteStream(onEvent, (generation_id) => this.call("cancel_write", { generation_id }), signal);
		const connection = new AbortController();
		// A stop asks the backend first, so that what was written is kept; only a silent backend is hung up on.
		signal?.addEventListener("abort", () => setTimeout(() => connection.abort(), GRACE_MS), { once: true });
		const response = await this.send("/api/v1/write/stream", {
			method: "POST",
			body: JSON.stringify(request),
			headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
			signal: connection.signal,
		});
		let failure: Failure | null = null;
		try {
			await readServerEvents(bodyOf(response), ({ event, data }) => {
				const value: unknown = JSON.parse(data);
				if (event === "error") failure = toFailure(value);
				else stream.take(value as WriteEvent);
			});
		} catch (thrown) {
			if (!stream.chosen) failure ??= connection.signal.aborted ? null : unreachable(thrown);
		}
		if (failure) throw failure;
		if (!stream.chosen && signal?.aborted) throw new Failure({ code: "cancelled", message: "Writing was stopped before there was any text." });
		if (!stream.chosen) throw new Failure({ code: "internal", message: "Writing ended early.", hint: "Your prompt is still here. Press Write to try again." });
	}

	subscribe(onEvent: (event: Event) => void, onState: (state: LinkState) => void): () => void {
		const ending = new AbortController();
		void this.follow(onEvent, onState, ending.signal);
		return () => ending.abort();
	}

	async saveText(fileName: string, text: string): Promise<string | null> {
		download(fileName, new Blob([text], { type: "text/plain;charset=utf-8" }));
		return "";
	}

	async saveBytes(fileName: string, base64: string, mime: string): Promise<string | null> {
		const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
		download(fileName, new Blob([bytes], { type: mime }));
		return "";
	}

	private async follow(onEvent: (event: Event) => void, onState: (state: LinkState) => void, signal: AbortSignal): Promise<void> {
		let last: string | null = null;
		let wait = FIRST_WAIT_MS;
		onState("connecting");
		while (!signal.aborted) {
			try {
				const headers = new Headers({ Accept: "text/event-stream" });
				if (last !== null) headers.set("Last-Event-ID", last);
				const response = await this.send("/api/v1/events", { method: "GET", headers, signal });
				onState("live");
				wait = FIRST_WAIT_MS;
				await readServerEvents(bodyOf(response), ({ data, id }) => {
					if (id !== null && id !== "") last = id;
					if (!signal.aborted) onEvent(JSON.parse(data) as Event);
				});
			} catch (thrown) {
				// A wrong token stays wrong: asking again would only fill the server's log.
				if (thrown instanceof Failure && (thrown.code === "unauthorized" || thrown.code === "forbidden")) wait = LONGEST_WAIT_MS;
			}
			if (signal.aborted) return;
			onState("lost");
			await pause(wait, signal);
			wait = Math.min(wait * 2, LONGEST_WAIT_MS);
		}
	}

	private async send(path: string, init: RequestInit): Promise<Response> {
		const headers = new Headers(init.headers);
		if (this.token) headers.set("Authorization", `Bearer ${this.token}`);
		let response: Response;
		try {
			response = await fetch(this.origin + path, { ...init, headers, cache: "no-store" });
		} catch (thrown) {
			if (init.signal?.aborted) throw new Failure({ code: "cancelled", message: "Stopped." });
			throw unreachable(thrown);
		}
		if (response.ok) return response;
		throw toFailure(await response.json().catch(() => new Failure({ code: "internal", message: `The server answered ${response.status}.` })));
	}
}

/** Takes the token out of the address bar (where it would be copied or bookmarked) and keeps it for this tab. */
export function takeToken(where: Location = location, keep: Storage = sessionStorage): string | null {
	const found = /(?:^#|&)token=([^&]+)/.exec(where.hash)?.[1];
	if (!found) return keep.getItem(TOKEN_KEY);
	const token = decodeURIComponent(found);
	keep.setItem(TOKEN_KEY, token);
	history.replaceState(null, "", where.pathname + where.search);
	return token;
}

function queryString(fields: Record<string, unknown>): string {
	const query = new URLSearchParams();
	for (const [name, value] of Object.entries(fields)) if (value !== null && value !== undefined) query.set(name, String(value));
	return query.size > 0 ? `?${query}` : "";
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
	if (!response.body) throw new Failure({ code: "internal", message: "The server's answer has no body." });
	return response.body;
}

function unreachable(thrown: unknown): Failure {
	if (thrown instanceof Failure) return thrown;
	return new Failure({
		code: "unreachable",
		message: "Inkling does not answer.",
		hint: "Nothing is lost. Check that `inkling serve` still runs, then try again.",
	});
}

function download(fileName: string, content: Blob): void {
	const link = document.createElement("a");
	link.href = URL.createObjectURL(content);
	link.download = fileName;
	link.click();
	// The browser reads the address after the click has returned.
	setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const timer = setTimeout(resolve, milliseconds);
		signal.addEventListener(
			"abort",
			() => {
				clearTimeout(timer);
				resolve();
			},
			{ once: true },
		);
	});
}
