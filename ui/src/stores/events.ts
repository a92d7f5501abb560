import { subscribe } from "../api/client";
import type { Change, Event } from "../api/bindings";
import type { LinkState } from "../api/transport";

type Kind = Change["change"];
type DataOf<K extends Kind> = Extract<Change, { change: K }> extends { data: infer D } ? D : null;

const listeners = new Map<Kind, Set<(data: never) => void>>();
const renewals = new Set<() => void>();

/** Calls `listener` with the data of every change of this kind. */
export function on<K extends Kind>(kind: K, listener: (data: DataOf<K>) => void): void {
	const set = listeners.get(kind) ?? new Set();
	set.add(listener as (data: never) => void);
	listeners.set(kind, set);
}

/** Calls `listener` when the stream is back after a break, so that what was missed is loaded again. */
export function onRenewal(listener: () => void): void {
	renewals.add(listener);
}

/** Starts listening; returns the function that ends it. */
export function startEvents(onState: (state: LinkState) => void): () => void {
	let broken = false;
	return subscribe(dispatch, (state) => {
		if (state === "lost") broken = true;
		if (state === "live" && broken) {
			broken = false;
			renewals.forEach((renew) => renew());
		}
		onState(state);
	});
}

export function dispatch(event: Event): void {
	const data = "data" in event ? event.data : null;
	listeners.get(event.change)?.forEach((listener) => listener(data as never));
}

/** Many changes in a row lead to one reload. */
export function debounced(action: () => void, milliseconds: number): () => void {
	let timer: ReturnType<typeof setTimeout> | undefined;
	return () => {
		clearTimeout(timer);
		timer = setTimeout(action, milliseconds);
	};
}
