import { expect, test } from "vitest";
import { readServerEvents, ServerEventParser, type ServerEvent } from "../src/api/sse";

const STREAM = ': hello\n\nevent: token\nid: 4\ndata: {"a":1}\n\nevent: token\r\ndata: line one\r\ndata: line two\r\n\r\ndata: plain\r\rid: 9\n\n';
const EVENTS: ServerEvent[] = [
	{ event: "token", data: '{"a":1}', id: "4" },
	{ event: "token", data: "line one\nline two", id: "4" },
	{ event: "message", data: "plain", id: "4" },
];

test("a stream means the same wherever its chunks are cut", () => {
	for (let size = 1; size <= STREAM.length; size++) {
		const events: ServerEvent[] = [];
		const parser = new ServerEventParser((event) => events.push(event));
		for (let at = 0; at < STREAM.length; at += size) parser.push(STREAM.slice(at, at + size));
		expect(events, `in chunks of ${size}`).toEqual(EVENTS);
	}
});

test("a character cut between two chunks of bytes is put together again", async () => {
	const bytes = new TextEncoder().encode("data: Größe – “ja”\n\n");
	const body = new ReadableStream<Uint8Array>({
		start(controller) {
			for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
			controller.close();
		},
	});
	const events: ServerEvent[] = [];
	await readServerEvents(body, (event) => events.push(event));
	expect(events.map(({ data }) => data)).toEqual(["Größe – “ja”"]);
});
