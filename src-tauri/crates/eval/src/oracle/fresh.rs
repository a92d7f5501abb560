//! Users drawn by chance, by `draw.py 20261130 18`, before taste met them.

use super::{Kind, User, per_hundred, share};

/// Looked at once, at the end.
pub const FRESH: [User; 18] = [
    User::new("little of words in -ing", Kind::Unfeatured, |seen| {
        -(per_hundred(seen, seen.words.iter().filter(|word| word.len() > 4 && word.ends_with("ing")).count()))
    }),
    User::new("some long words", Kind::Unfeatured, |seen| {
        -(share(seen.words.iter().map(String::len).sum(), seen.words.len()) - 3.67).abs()
    }),
    User::new("gardens", Kind::Unfeatured, |seen| {
        seen.rate("garden flower flowers tree trees leaf leaves grass seed seeds root roots branch rose petals vine bush")
    }),
    User::new("of", Kind::Unfeatured, |seen| seen.rate("of")),
    User::new("little of they", Kind::Unfeatured, |seen| -seen.rate("they them their theirs themselves")),
    User::new("night", Kind::Unfeatured, |seen| {
        seen.rate("night dark moon midnight sleep slept dream dreams shadow shadows evening asleep")
    }),
    User::new("gardens at the end", Kind::Unfeatured, |seen| {
        seen.ending(60).rate("garden flower flowers tree trees leaf leaves grass seed seeds root roots branch rose petals vine bush")
    }),
    User::new("little of anger", Kind::Unfeatured, |seen| {
        -seen.rate("angry anger furious rage shouted yelled mad snapped glared fist argued slammed hate hated")
    }),
    User::new("sounds", Kind::Unfeatured, |seen| {
        seen.rate("sound noise loud whisper whispered heard hear bang crash rustle hum echo voice voices bell")
    }),
    User::new("friends", Kind::Unfeatured, |seen| {
        seen.rate("friend friends together helped help share shared thank thanked kind hug hugged")
    }),
    User::new("sickness", Kind::Unfeatured, |seen| {
        seen.rate("sick ill doctor hospital medicine fever hurt nurse weak cough bandage heal healed cure tired")
    }),
    User::new("anger over looking", Kind::Unfeatured, |seen| {
        seen.rate("angry anger furious rage shouted yelled mad snapped glared fist argued slammed hate hated")
            - seen.rate("look looked looking see saw seen watch watched eyes stared glance glanced")
    }),
    User::new("treasure", Kind::Unfeatured, |seen| seen.rate("gold treasure jewel jewels coin coins chest map crown diamond ring silver")),
    User::new("sizes", Kind::Unfeatured, |seen| seen.rate("big huge tiny small large giant little enormous great long short tall")),
    User::new("faith over treasure", Kind::Unfeatured, |seen| {
        seen.rate("god church pray prayed prayer priest angel soul heaven holy bless blessed sacred monk temple")
            - seen.rate("gold treasure jewel jewels coin coins chest map crown diamond ring silver")
    }),
    User::new("and", Kind::Unfeatured, |seen| seen.rate("and")),
    User::new("question marks", Kind::Featured, |seen| per_hundred(seen, seen.text.matches('?').count())),
    User { slips: 0.25, ..User::new("we, 25% slips", Kind::Unfeatured, |seen| seen.rate("we us our ours ourselves")) },
];
