import { Channel, invoke } from "@tauri-apps/api/core";
import type { Calls, Event, WriteEvent, WriteRequest, WriteResult } from "./bindings";
import { toFailure } from "./errors";
import { WriteStream } from "./stream";
import type { CallName, LinkState, Transport } from "./transport";

/** The window: commands and channels of the shell. Channels carry batches, for a message per token would cost more than the tokens. */
export class WindowTransport implements Transport {
	readonly kind = "window";

	async call<N extends CallName>(name: N, input: Calls[N]["input"]): Promise<Calls[N]["output"]> {
		return command<Calls[N]["output"]>("call", { name, input });
	}

	async write(request: WriteRequest, onEvent: (event: WriteEvent) => void, signal?: AbortSignal): Promise<void> {
		const stream = new WriteStream(onEvent, (generation_id) => this.call("cancel_write", { generation_id }), signal);
		const channel = new Channel<WriteEvent[]>();
		channel.onmessage = (batch) => batch.forEach((event) => stream.take(event));
		const result = await command<WriteResult | null | undefined>("write_stream", { request, channel });
		// The reply can overtake the channel's last batch: take the vote from the reply when it carries one.
		if (!stream.chosen && result?.candidates) stream.take({ event: "chosen", result });
		await stream.finish();
	}

	subscribe(onEvent: (event: Event) => void, onState: (state: LinkState) => void): () => void {
		let ended = false;
		let timer: ReturnType<typeof setTimeout> | undefined;
		let after: number | null = null;
		const start = (wait: number) => {
			if (ended) return;
			const channel = new Channel<Event[]>();
			channel.onmessage = (batch) => {
				if (ended) return;
				for (const event of batch) {
					after = event.seq ?? after;
					onEvent(event);
				}
			};
			invoke("subscribe", { channel, after }).then(
				() => !ended && onState("live"),
				() => {
					if (ended) return;
					onState("lost");
					timer = setTimeout(() => start(Math.min(wait * 2, 10_000)), wait);
				},
			);
		};
		onState("connecting");
		start(500);
		return () => {
			ended = true;
			clearTimeout(timer);
		};
	}

	saveText(fileName: string, text: string): Promise<string | null> {
		return command("save_text", { fileName, text });
	}

	saveBytes(fileName: string, base64: string): Promise<string | null> {
		return command("save_bytes", { fileName, base64 });
	}

	ready = (): void => {
		invoke("page_ready").catch(() => undefined);
	};

	chooseFolder = (): Promise<string | null> => command("open_folder_dialog", {});
}

async function command<T>(name: string, input: Record<string, unknown>): Promise<T> {
	try {
		return await invoke<T>(name, input);
	} catch (thrown) {
		throw toFailure(thrown);
	}
}
