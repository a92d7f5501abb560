/** One server-sent event. */
export interface ServerEvent {
	event: string;
	data: string;
	id: string | null;
}

/**
 * Parses `text/event-stream` as it arrives: a chunk may end anywhere, even inside a CRLF. Comments (heartbeats) are
 * dropped. Source: WHATWG HTML, "Server-sent events", section 9.2.6.
 */
export class ServerEventParser {
	private rest = "";
	private name = "";
	private data: string[] = [];
	private id: string | null = null;

	constructor(private readonly onEvent: (event: ServerEvent) => void) {}

	push(chunk: string): void {
		this.rest += chunk;
		for (;;) {
			const end = this.rest.search(/[\r\n]/);
			if (end < 0) return;
			const isReturn = this.rest[end] === "\r";
			// A lone CR at the end of a chunk may be the first half of CRLF: wait for what follows.
			if (isReturn && end + 1 === this.rest.length) return;
			const width = isReturn && this.rest[end + 1] === "\n" ? 2 : 1;
			const line = this.rest.slice(0, end);
			this.rest = this.rest.slice(end + width);
			this.line(line);
		}
	}

	private line(line: string): void {
		if (line === "") {
			if (this.data.length > 0) this.onEvent({ event: this.name || "message", data: this.data.join("\n"), id: this.id });
			this.name = "";
			this.data = [];
			return;
		}
		const colon = line.indexOf(":");
		if (colon === 0) return;
		const field = colon < 0 ? line : line.slice(0, colon);
		const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
		if (field === "event") this.name = value;
		else if (field === "data") this.data.push(value);
		else if (field === "id" && !value.includes("\0")) this.id = value;
	}
}

/** Reads a response body to its end; resolves when the server closes it. */
export async function readServerEvents(body: ReadableStream<Uint8Array>, onEvent: (event: ServerEvent) => void): Promise<void> {
	const parser = new ServerEventParser(onEvent);
	const decoder = new TextDecoder();
	const reader = body.getReader();
	for (;;) {
		const { done, value } = await reader.read();
		if (done) break;
		parser.push(decoder.decode(value, { stream: true }));
	}
	parser.push(decoder.decode() + "\n\n");
}
