//! The users that taste was developed against.

use super::{Kind, User};

const GLOOM: &str = "dark dead death cold alone blood black fear afraid scream cry cried lost empty grave pain silence shadow shadows";
const GLAD: &str = "smile smiled laugh laughed happy love loved home warm together hugged kissed friend friends safe light joy";
const MOTION: &str = "ran run jumped grabbed pulled pushed threw kicked fell climbed raced hit broke shot rushed turned";

/// Two thirds of them like what taste has no feature for.
pub const USERS: [User; 20] = [
    User::new("dialogue", Kind::Featured, |seen| seen.spoken()),
    User::new("short sentences", Kind::Featured, |seen| -seen.sentence_length()),
    User::new("gloom", Kind::Featured, |seen| seen.rate(GLOOM) - seen.rate(GLAD)),
    User::new("glad endings", Kind::Featured, |seen| seen.ending(40).rate(GLAD) - seen.ending(40).rate(GLOOM) + 0.1 * seen.rate(GLAD)),
    User::new("first person", Kind::Featured, |seen| seen.rate("i me my mine myself") - 30.0 * seen.spoken()),
    User::new("pace", Kind::Unfeatured, |seen| seen.rate(MOTION) - 0.3 * seen.sentence_length()),
    User::new("length only", Kind::Featured, |seen| seen.words.len() as f64),
    User {
        slips: 0.25,
        ..User::new("description, 25% slips", Kind::Unfeatured, |seen| {
            seen.rate("old small little big long soft bright red blue green golden silver white tall quiet thin wet heavy sweet")
        })
    },
    User::new("dialogue and short", Kind::Unfeatured, |seen| {
        f64::min(seen.spoken() / 0.2, 1.0) + f64::min(110.0 / seen.words.len().max(1) as f64, 1.0)
    }),
    User::new("gloom without dialogue", Kind::Unfeatured, |seen| {
        f64::min(seen.rate(GLOOM) / 2.0, 1.0) - f64::min(seen.spoken() / 0.15, 1.0)
    }),
    User::new("middle sentences", Kind::Unfeatured, |seen| -(seen.sentence_length() - 8.5).abs()),
    User::new("some dialogue, not much", Kind::Unfeatured, |seen| -(seen.spoken() - 0.12).abs()),
    User::new("water", Kind::Unfeatured, |seen| {
        seen.rate("sea boat ship river water waves wave rain fish lake shore beach island sail sailed swam wet ocean harbour storm")
    }),
    User::new("home and food", Kind::Unfeatured, |seen| {
        seen.rate("house home kitchen table bread tea cake soup bed door chair cup room food ate eat dinner window fire")
    }),
    User::new("family", Kind::Unfeatured, |seen| {
        seen.rate("mother father sister brother grandmother grandfather son daughter family mum dad wife husband uncle aunt baby child")
    }),
    User::new("money and work", Kind::Unfeatured, |seen| {
        seen.rate("money work worked job shop sold paid pay coins coin gold market boss office bought price rich poor captain")
    }),
    User::new("she", Kind::Unfeatured, |seen| seen.rate("she her hers herself") - seen.rate("he him his himself")),
    User::new("turns", Kind::Unfeatured, |seen| seen.rate("but then suddenly until instead still yet")),
    User { kind: Kind::Changing, ..User::new("dialogue, then none", Kind::Changing, |seen| seen.spoken()) },
    User { kind: Kind::Random, ..User::new("random", Kind::Random, |_| 0.0) },
];
