//! The vote.

use domain::Scores;
use proptest::prelude::*;
use taste::{VoteWeights, standing, vote};

fn scores(taste: Option<f64>, quality: f64, on_prompt: f64, fluency: f64, genre: f64) -> Scores {
    Scores { taste, quality, on_prompt, fluency, genre, ..Scores::default() }
}

#[test]
fn points_are_weighted_shares_of_rivals_beaten() {
    // Three candidates, two voters of weight 3 and 1: b gets (3 · 2 + 1 · ½) / (4 · 2) of 10, by hand.
    let weights = VoteWeights { taste: 3.0, quality: 1.0, on_prompt: 0.0, fluency: 0.0, genre: 0.0 };
    let mut all = [scores(Some(0.2), 8.0, 0.0, 0.0, 0.0), scores(Some(0.9), 7.0, 0.0, 0.0, 0.0), scores(Some(0.5), 7.0, 0.0, 0.0, 0.0)];
    assert_eq!(vote(&mut all, &weights), [1, 2, 0]);
    let totals: Vec<f64> = all.iter().map(|one| one.total).collect();
    assert_eq!(totals, [2.5, 8.125, 4.375]);
}

#[test]
fn taste_has_no_vote_unless_every_candidate_has_one() {
    let mut all = [scores(Some(1.0), 5.0, 0.0, 0.0, 0.0), scores(None, 6.0, 0.0, 0.0, 0.0)];
    assert_eq!(vote(&mut all, &VoteWeights::default()), [1, 0]);
}

#[test]
fn ties_keep_the_order_of_writing_and_a_lone_candidate_wins() {
    let mut all = vec![scores(None, 7.0, 0.5, 0.5, 0.5); 4];
    assert_eq!(vote(&mut all, &VoteWeights::default()), [0, 1, 2, 3]);
    assert!(all.iter().all(|one| one.total == 5.0), "equal candidates share the points");
    let mut alone = [scores(None, 0.0, 0.0, 0.0, 0.0)];
    assert_eq!((vote(&mut alone, &VoteWeights::default()), alone[0].total), (vec![0], 10.0));
    assert!(vote(&mut [], &VoteWeights::default()).is_empty());
}

#[test]
fn a_score_that_is_no_number_loses() {
    let mut all = [scores(None, f64::NAN, 0.5, 0.5, 0.5), scores(None, 0.0, 0.5, 0.5, 0.5)];
    assert_eq!(vote(&mut all, &VoteWeights::default()), [1, 0]);
    let none = VoteWeights { taste: -1.0, quality: 0.0, on_prompt: f64::NAN, fluency: 0.0, genre: 0.0 };
    assert_eq!(vote(&mut all, &none), [0, 1], "without voters the order of writing stands");
}

fn any_scores() -> impl Strategy<Value = Scores> {
    // Coarse values, so that ties are common.
    let tenths = || (0..=10u8).prop_map(|tenths| f64::from(tenths) / 10.0);
    (tenths(), tenths(), tenths(), tenths(), tenths()).prop_map(|(a, b, c, d, e)| scores(Some(a), b * 10.0, c, d, e))
}

proptest! {
    #[test]
    fn a_candidate_better_in_everything_wins(mut all in prop::collection::vec(any_scores(), 1..10), at in 0usize..10) {
        let at = at % all.len();
        all[at] = scores(Some(1.1), 11.0, 1.1, 1.1, 1.1);
        let order = vote(&mut all, &VoteWeights::default());
        prop_assert_eq!(order[0], at);
        prop_assert_eq!(all[at].total, 10.0);
    }

    #[test]
    fn a_candidate_no_worse_in_anything_is_ranked_no_lower(mut all in prop::collection::vec(any_scores(), 2..10)) {
        vote(&mut all, &VoteWeights::default());
        for a in &all {
            for b in &all {
                if a.taste >= b.taste && a.quality >= b.quality && a.on_prompt >= b.on_prompt && a.fluency >= b.fluency && a.genre >= b.genre {
                    prop_assert!(a.total >= b.total);
                }
            }
        }
    }

    #[test]
    fn the_order_is_complete_and_the_total_does_not_depend_on_it(all in prop::collection::vec(any_scores(), 1..10)) {
        let mut forward = all.clone();
        let mut order = vote(&mut forward, &VoteWeights::default());
        prop_assert!(order.windows(2).all(|pair| forward[pair[0]].total >= forward[pair[1]].total));
        order.sort_unstable();
        prop_assert_eq!(order, (0..all.len()).collect::<Vec<_>>());
        let mut backward: Vec<Scores> = all.into_iter().rev().collect();
        vote(&mut backward, &VoteWeights::default());
        backward.reverse();
        prop_assert_eq!(forward, backward);
    }
}

#[test]
fn standing_is_the_weighted_mean_of_what_is_known() {
    let scores = Scores { taste: Some(0.2), quality: 8.0, on_prompt: 0.6, fluency: 0.8, genre: 0.4, ..Scores::default() };
    // (3·2 + 8 + 6 + 8 + 0.5·4) / 6.5
    assert!((standing(&scores, &VoteWeights::default()) - 30.0 / 6.5).abs() < 1e-9);
    let unknown = Scores { taste: None, ..scores.clone() };
    assert!((standing(&unknown, &VoteWeights::default()) - 24.0 / 3.5).abs() < 1e-9, "without a taste the rest counts");
    let nothing = VoteWeights { taste: 0.0, quality: 0.0, on_prompt: 0.0, fluency: 0.0, genre: 0.0 };
    assert_eq!(standing(&scores, &nothing), 8.0);
}
