//! The prompts of the candidate pool: every hero meets a situation of each genre.

use domain::{Genre, GenreMix, Style};

/// What is written for.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub text: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
}

const HEROES: [&str; 15] = [
    "an old ferryman",
    "a girl who collects keys",
    "two brothers",
    "a retired teacher",
    "a young nurse",
    "a baker's son",
    "a quiet librarian",
    "a travelling musician",
    "a farmer and her dog",
    "a clumsy apprentice",
    "a night watchman",
    "a twelve-year-old inventor",
    "a homesick soldier",
    "a grandmother",
    "a mapmaker",
];

const SITUATIONS: [(Genre, [&str; 5]); 8] = [
    (
        Genre::Fantasy,
        [
            "finds a door in the hill",
            "is given a wish by a river spirit",
            "hatches an egg of glass",
            "learns a spell that must not be sung",
            "meets a giant who has lost its name",
        ],
    ),
    (
        Genre::DarkFantasy,
        [
            "makes a bargain with the crow king",
            "inherits a crown that whispers",
            "wakes in a city without shadows",
            "must feed the thing below the well",
            "carries a cursed lantern home",
        ],
    ),
    (
        Genre::SciFi,
        [
            "repairs a robot that remembers the war",
            "is the last one awake on a ship",
            "receives a message from tomorrow",
            "grows a garden on Mars",
            "discovers that the sky is a screen",
        ],
    ),
    (
        Genre::Mystery,
        [
            "receives a letter with no sender",
            "finds a stranger's coat in the house",
            "looks for the missing painting",
            "notices that the clock was changed",
            "hears a secret through the wall",
        ],
    ),
    (
        Genre::Horror,
        [
            "moves into the house at the end of the lane",
            "hears somebody breathing in the cellar",
            "sees the same face in every window",
            "cannot leave the forest",
            "answers a telephone that is not plugged in",
        ],
    ),
    (
        Genre::Romance,
        [
            "dances with a stranger at the harvest feast",
            "writes letters to the wrong address",
            "meets an old love at the station",
            "shares an umbrella in the rain",
            "must choose between a promise and a heart",
        ],
    ),
    (
        Genre::Adventure,
        [
            "crosses the desert for a single flower",
            "sails into a storm",
            "climbs the mountain nobody came back from",
            "follows a map drawn on a leaf",
            "is lost in a cave with one candle",
        ],
    ),
    (
        Genre::Thriller,
        [
            "has one hour to find the bomb",
            "is followed through the market",
            "must cross the border tonight",
            "sees a crime from the train",
            "discovers that the phone is tapped",
        ],
    ),
];

/// One in so many prompts asks for a style too, the styles in turn.
const STYLED: usize = 3;

/// The 120 prompts, genres in turn.
pub fn prompts() -> Vec<Prompt> {
    (0..HEROES.len() * SITUATIONS.len())
        .map(|at| {
            let (genre, situations) = &SITUATIONS[at % SITUATIONS.len()];
            let hero = at / SITUATIONS.len();
            // Each situation comes three times in a genre, each time with another hero.
            let hero_name = HEROES[(hero + 7 * (at % SITUATIONS.len())) % HEROES.len()];
            Prompt {
                text: format!("{hero_name} {}", situations[hero % situations.len()]),
                genres: GenreMix([(*genre, 1.0)].into_iter().collect()),
                style: at.is_multiple_of(STYLED).then(|| Style::ALL[at / STYLED % Style::ALL.len()]),
            }
        })
        .collect()
}
