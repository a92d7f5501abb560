import { en, type Key, type Message } from "./en";
export const de: Record<Key, Message> = en;
