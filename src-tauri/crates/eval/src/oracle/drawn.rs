//! Users drawn by chance: themes, manners and how they are joined came from a seeded draw (20261129), before taste met them.

use super::{Kind, Seen, User, per_hundred};

fn letters(seen: &Seen) -> f64 {
    seen.words.iter().map(String::len).sum::<usize>() as f64 / seen.words.len().max(1) as f64
}

/// Among the first sixty words.
fn different(seen: &Seen) -> f64 {
    seen.words.iter().take(60).collect::<std::collections::HashSet<_>>().len() as f64
}

/// Looked at once at the end of one version, and while the next was made.
pub const DRAWN: [User; 18] = [
    User::new("fights", Kind::Unfeatured, |seen| {
        seen.rate("knife gun sword bomb blood killed kill fight fought war soldier soldiers enemy attack shot wound")
    }),
    User::new("reading", Kind::Unfeatured, |seen| {
        seen.rate("book books letter letters page pages wrote write written read reading ink pen paper words story library")
    }),
    User::new("numbers", Kind::Unfeatured, |seen| {
        seen.rate("one two three four five six seven eight nine ten hundred first second third half")
    }),
    User::new("machines", Kind::Unfeatured, |seen| {
        seen.rate("machine robot computer screen wire wires metal button signal lights engine code panel switch")
    }),
    User::new("stuff", Kind::Unfeatured, |seen| seen.rate("stone stones rock iron gold silver glass wood wooden brick copper clay bone")),
    User::new("magic at the end", Kind::Unfeatured, |seen| {
        seen.ending(60).rate("magic spell spells witch wizard dragon giant fairy curse cursed wish wand enchanted crown king queen")
    }),
    User::new("weather over laughter", Kind::Unfeatured, |seen| {
        seen.rate("rain snow wind storm cloud clouds thunder lightning fog mist frost ice sun sunny sky weather")
            - seen.rate("laughed laugh joke funny silly grinned grin giggled smiled smile teased fool foolish")
    }),
    User::new("callings over thoughts", Kind::Unfeatured, |seen| {
        seen.rate("doctor nurse teacher baker farmer soldier captain guard sailor king clerk cook thief hunter")
            - seen.rate("think thought know knew remember remembered forgot believe believed wonder wondered guess idea mind")
    }),
    User::new("little of “you”", Kind::Featured, |seen| -seen.rate("you your yours")),
    User::new("“the”", Kind::Featured, |seen| seen.rate("the")),
    User::new("sentence length", Kind::Featured, |seen| seen.sentence_length()),
    User::new("some different words", Kind::Unfeatured, |seen| -(different(seen) - 45.0).abs()),
    User::new("words of middle length", Kind::Unfeatured, |seen| -(letters(seen) - 4.0).abs()),
    User::new("doubt and commas", Kind::Unfeatured, |seen| {
        f64::min(seen.rate("maybe perhaps almost nearly seemed seem somehow probably might could"), 1.5)
            + f64::min(1.5 * per_hundred(seen, seen.text.matches(',').count()) / 5.0, 1.5)
    }),
    User::new("clothes and length", Kind::Unfeatured, |seen| {
        f64::min(
            seen.rate("coat hat dress shirt boots shoes scarf gloves cloth thread sewing sewed wool silk apron pocket sleeve button"),
            1.5,
        ) + f64::min(1.5 * seen.words.len() as f64 / 110.0, 1.5)
    }),
    User::new("travel or days", Kind::Unfeatured, |seen| {
        f64::max(
            seen.rate("train car bus truck plane engine wheel wheels cart wagon bicycle ship boat driver station rails"),
            seen.rate("today yesterday tomorrow morning evening hour hours minute minutes day days week year years clock"),
        )
    }),
    User::new("dialogue and “you”", Kind::Unfeatured, |seen| {
        f64::min(seen.spoken() / 0.1, 1.2) + f64::min(seen.rate("you your yours") / 1.5, 1.2)
    }),
    User::new("“the” and long sentences", Kind::Unfeatured, |seen| {
        f64::min(seen.rate("the") / 7.0, 1.2) + f64::min(seen.sentence_length() / 9.0, 1.2)
    }),
];
