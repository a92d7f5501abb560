"""Chooses the probe stories: 28 of the project's own stories whose prompts are held out of every training (one in 25, by
the hash that the story model's preparation uses), spread over genres and styles. usage: make.py STORIES > stories.jsonl"""
import glob, json, sys, zlib

held = {}
for path in sorted(glob.glob(f"{sys.argv[1]}/**/*.jsonl", recursive=True)):
    for line in open(path, encoding="utf-8"):
        if line.strip() and zlib.crc32((row := json.loads(line))["prompt"].lower().encode()) % 25 == 0:
            held.setdefault(row["prompt"].lower(), row)
by_genre = {}
for row in held.values():
    by_genre.setdefault(max(row["genres"], key=row["genres"].get) if row["genres"] else "", []).append(row)
for rows in by_genre.values():
    rows.sort(key=lambda row: zlib.crc32(row["story"].encode()))
chosen = []
while len(chosen) < 28:
    for genre in sorted(by_genre):
        if by_genre[genre] and len(chosen) < 28:
            chosen.append(by_genre[genre].pop(0))
styles = {"atmospheric", "emotional", "sensory", "suspenseful", "dialogue", "humorous", "fast", "twist", "hopeful", "melancholy"}
for row in chosen:
    print(json.dumps({"prompt": row["prompt"], "genres": row["genres"], "style": row["style"] if row["style"] in styles else None, "text": row["story"]}, ensure_ascii=False))
