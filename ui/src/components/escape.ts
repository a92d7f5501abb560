import type { Attachment } from "svelte/attachments";

/** Runs on Escape inside the element, and keeps the key from meaning more (Stop, for one). */
export function onEscape(run: () => void): Attachment<HTMLElement> {
	return (node) => {
		const key = (event: KeyboardEvent) => {
			if (event.key !== "Escape") return;
			event.stopPropagation();
			run();
		};
		node.addEventListener("keydown", key);
		return () => node.removeEventListener("keydown", key);
	};
}
