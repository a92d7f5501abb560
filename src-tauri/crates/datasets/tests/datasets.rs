//! What becomes of the files that people bring.

#![allow(clippy::unwrap_used)]

use datasets::{DatasetError, MOST_ROW_BYTES, Message, Role, Row, RowFormat, SkipReason, Target, parse, read};
use proptest::prelude::*;

fn one(json: &str) -> Row {
    let found = parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(found.rows.len(), 1, "{json}");
    found.rows.into_iter().next().unwrap()
}

fn answer(text: &str) -> Target {
    Target::Answer(text.to_owned())
}

fn reasons(text: &str) -> Vec<(usize, SkipReason)> {
    parse(text.as_bytes()).unwrap().first_skipped.into_iter().map(|skipped| (skipped.number, skipped.reason)).collect()
}

#[test]
fn every_format_of_a_row_is_recognised_by_its_fields() {
    let cases = [
        (r#"{"instruction":"Add","input":"1 and 2","output":"3"}"#, RowFormat::Instruction, "Add\n\n1 and 2", answer("3")),
        (r#"{"instruction":"Greet","input":"","output":"Hello"}"#, RowFormat::Instruction, "Greet", answer("Hello")),
        (r#"{"input":"one","output":"eins"}"#, RowFormat::Instruction, "one", answer("eins")),
        (r#"{"context":"The sky is blue.","answer":"Blue."}"#, RowFormat::Context, "The sky is blue.", answer("Blue.")),
        (r#"{"context":"It rains.","question":"Wet?","answer":"Yes"}"#, RowFormat::Context, "It rains.\n\nWet?", answer("Yes")),
        (r#"{"text":"Once upon a time."}"#, RowFormat::Text, "", answer("Once upon a time.")),
        (r#"{"text":"I love it","label":"positive"}"#, RowFormat::Label, "I love it", answer("positive")),
        (r#"{"text":"so so","label":2}"#, RowFormat::Label, "so so", answer("2")),
        (r#"{"prompt":"A","completion":"B"}"#, RowFormat::Completion, "A", answer("B")),
        (
            r#"{"prompt":"A","chosen":"good","rejected":"bad"}"#,
            RowFormat::Preference,
            "A",
            Target::Pair { chosen: "good".into(), rejected: "bad".into() },
        ),
        (r#"{"prompt":"A","completion":"B","label":false}"#, RowFormat::Judged, "A", Target::Judged { answer: "B".into(), liked: false }),
        (
            r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}"#,
            RowFormat::Messages,
            "Hi",
            answer("Hello"),
        ),
        (r#"{"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Hello"}]}"#, RowFormat::ShareGpt, "Hi", answer("Hello")),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":"Yo"}]}"#,
            RowFormat::Messages,
            "Hi",
            answer("Yo"),
        ),
        (
            r#"{"chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"good"}],"rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"bad"}]}"#,
            RowFormat::Preference,
            "Q",
            Target::Pair { chosen: "good".into(), rejected: "bad".into() },
        ),
        (
            r#"{"prompt":[{"role":"user","content":"Q"}],"completion":[{"role":"assistant","content":"A"}]}"#,
            RowFormat::Completion,
            "Q",
            answer("A"),
        ),
    ];
    for (json, format, prompt, target) in cases {
        let row = one(json);
        assert_eq!((row.format, row.prompt_text().as_str(), &row.target), (format, prompt, &target), "{json}");
        assert_eq!(row.weight, 1.0);
    }
}

#[test]
fn each_answer_of_a_conversation_is_learned_with_what_was_said_before_it() {
    let json = r#"{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":"Bye"},{"role":"assistant","content":"See you"}]}"#;
    let found = parse(json.as_bytes()).unwrap();
    assert_eq!(found.seen, 1);
    let [first, second] = found.rows.as_slice() else { panic!("two answers: {:?}", found.rows) };
    assert_eq!(first.prompt, [Message { role: Role::System, content: "Be kind.".into() }, Message::user("Hi")]);
    assert_eq!(first.target, answer("Hello"));
    assert_eq!(second.prompt.len(), 4);
    assert_eq!(second.prompt_text(), "Be kind.\nUser: Hi\nAssistant: Hello\nUser: Bye");
}

#[test]
fn the_same_rows_come_from_lines_an_array_an_object_with_data_and_a_table() {
    let lines = "{\"prompt\":\"A\",\"completion\":\"B\"}\r\n\r\n{\"prompt\":\"C, D\",\"completion\":\"E\\nF\"}\n";
    let array = "[{\"prompt\":\"A\",\"completion\":\"B\"},\n{\"prompt\":\"C, D\",\"completion\":\"E\\nF\"}]";
    let object = format!("{{\n\"data\": {array}\n}}");
    let table = "\u{feff}Prompt,completion,weight\nA,B,\n\"C, D\",\"E\nF\",\n";
    let expected: Vec<_> = parse(lines.as_bytes()).unwrap().rows.into_iter().map(|row| (row.prompt, row.target)).collect();
    assert_eq!(expected.len(), 2);
    for text in [array, &object, table] {
        let rows: Vec<_> = parse(text.as_bytes()).unwrap().rows.into_iter().map(|row| (row.prompt, row.target)).collect();
        assert_eq!(rows, expected, "{text}");
    }
}

#[test]
fn formats_may_be_mixed_and_are_counted() {
    let text = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"prompt\":\"p\",\"completion\":\"c\",\"label\":\"yes\",\"weight\":2.5}\n";
    let found = parse(text.as_bytes()).unwrap();
    assert_eq!(found.formats().into_iter().collect::<Vec<_>>(), [(RowFormat::Judged, 1), (RowFormat::Text, 2)]);
    assert_eq!(found.rows[2].weight, 2.5);
}

#[test]
fn a_bad_row_is_skipped_with_its_number_and_the_reason_and_the_rest_is_used() {
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(MOST_ROW_BYTES));
    let rows = [
        r#"{"text":"good"}"#,
        r#"{"text":"cut"#,
        r#"["a list"]"#,
        r#"{"title":"x","body":"y"}"#,
        r#"{"text":"  "}"#,
        r#"{"prompt":"p","completion":["c"]}"#,
        r#"{"prompt":"p","completion":"c","label":"maybe"}"#,
        r#"{"prompt":"p","chosen":"same","rejected":"same "}"#,
        r#"{"messages":[{"role":"user","content":"alone"}]}"#,
        r#"{"messages":[{"role":"tool","content":"x"}]}"#,
        r#"{"text":"w","weight":-1}"#,
        r#"{"text":"good"}"#,
        &long,
    ];
    let skipped = reasons(&rows.join("\n"));
    let [(2, SkipReason::NotJson(_)), rest @ ..] = skipped.as_slice() else { panic!("{skipped:?}") };
    let expected = [
        (3, SkipReason::NotAnObject),
        (4, SkipReason::UnknownFields("body, title".into())),
        (5, SkipReason::EmptyField("text")),
        (6, SkipReason::UnreadableTurn),
        (7, SkipReason::UnclearLabel),
        (8, SkipReason::SameAnswers),
        (9, SkipReason::NoAnswer),
        (10, SkipReason::UnreadableTurn),
        (11, SkipReason::UnclearWeight),
        (12, SkipReason::Duplicate),
        (13, SkipReason::TooLong(long.len())),
    ];
    assert_eq!(rest, expected);
    assert_eq!(reasons("text,label\na,b\nc\nd,e\n"), [(3, SkipReason::Columns { found: 1, wanted: 2 })]);
}

#[test]
fn a_file_that_gives_nothing_says_why() {
    assert!(matches!(parse(b""), Err(DatasetError::Empty)));
    assert!(matches!(parse(b" \n\n"), Err(DatasetError::Empty)));
    assert!(matches!(parse(b"[]"), Err(DatasetError::Empty)));
    assert!(matches!(parse(b"{\"text\":\"ok\"}\n{\"text\":\"\xff\"}"), Err(DatasetError::NotText { line: 2 })));
    assert!(matches!(parse(b"just words\nmore words"), Err(DatasetError::UnknownLayout { .. })));
    assert!(matches!(parse(b"[{\"text\": 1"), Err(DatasetError::UnknownLayout { .. })));
    let nothing = parse(b"{\"a\":1}\n{\"b\":2}").unwrap_err();
    assert_eq!(nothing.to_string(), "None of the 2 rows can be used. The first: row 1: its fields (a) fit no known format.");
    let missing = read(std::path::Path::new("/nowhere/data.jsonl")).unwrap_err();
    assert!(missing.to_string().starts_with("/nowhere/data.jsonl cannot be read"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_every_row_is_accounted_for(
        lines in prop::collection::vec(prop_oneof![
            any::<Vec<u8>>(),
            r#"\{"(text|prompt|messages|label|chosen|rejected|completion)": ?("[a-z]{0,4}"|[0-9]|null|\[\])(, ?"(text|completion|label)": ?("[a-z]{0,3}"|true))?\}"#
                .prop_map(String::into_bytes),
        ], 0..12)
    ) {
        if let Ok(found) = parse(&lines.join(&b'\n')) {
            // Each row seen was used or skipped; one object can give several rows only as a conversation.
            prop_assert_eq!(found.seen, found.skipped + found.rows.iter().map(|row| row.number).collect::<std::collections::BTreeSet<_>>().len());
            prop_assert!(found.first_skipped.len() <= found.skipped);
            for row in &found.rows {
                prop_assert!(row.weight > 0.0);
            }
        }
    }
}
