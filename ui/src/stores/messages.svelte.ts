import { toFailure, type Failure } from "../api/errors";

export interface ToastAction {
	label: string;
	run: () => void;
}

export interface Toast {
	id: number;
	text: string;
	hint: string | null;
	tone: "note" | "bad";
	action: ToastAction | null;
}

/** What is said at the edge of the window, and the one error that needs an answer. */
class Messages {
	toasts = $state<Toast[]>([]);
	dialog = $state.raw<Failure | null>(null);
	private next = 1;

	say(text: string, action: ToastAction | null = null): void {
		this.add({ text, hint: null, tone: "note", action }, action ? 12_000 : 5000);
	}

	/** Shows an error where its code says; `inline` takes it when the view has a place for it. */
	report(thrown: unknown, inline?: (failure: Failure) => void): void {
		const failure = toFailure(thrown);
		if (failure.place === "dialog") this.dialog = failure;
		else if (failure.place === "inline" && inline) inline(failure);
		else this.add({ text: failure.message, hint: failure.hint, tone: "bad", action: null }, 15_000);
	}

	dismiss(id: number): void {
		this.toasts = this.toasts.filter((toast) => toast.id !== id);
	}

	private add(toast: Omit<Toast, "id">, milliseconds: number): void {
		// The same words twice (a failing poll, say) are one message.
		const same = this.toasts.find(({ text }) => text === toast.text);
		if (same) this.dismiss(same.id);
		const id = this.next++;
		this.toasts = [...this.toasts.slice(-3), { ...toast, id }];
		setTimeout(() => this.dismiss(id), milliseconds);
	}
}

export const messages = new Messages();
