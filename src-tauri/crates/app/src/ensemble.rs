//! The members of the ensemble: who writes the candidates of a generation.

use crate::{App, Home};
use domain::{AdapterChoice, ApiError, BaseId, Notice, NoticeCode, Settings, WriteRequest};
use model::Adapters;

/// Members take turns in this order: all active adapters, one of them alone (or all again), all with a calmer sampler, and the
/// plain base, whose comparison keeps the vote honest.
const ROUND: usize = 4;

/// A calm member writes at this share of the temperature.
const CALM: f64 = 0.7;

/// Who writes: adapters, a sampler, and what both together are called.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub name: String,
    pub adapters: Adapters,
    /// Of the temperature that was asked for.
    pub warmth: f64,
}

impl Member {
    fn of(base: &BaseId) -> Self {
        Self { name: base.to_string(), adapters: Adapters::default(), warmth: 1.0 }
    }

    fn calm(mut self) -> Self {
        self.name.push_str(" · calmer");
        self.warmth *= CALM;
        self
    }
}

impl App {
    /// The members that write `n` candidates: those asked for, or the active adapters, each way of using them, and the base.
    pub(crate) fn members(
        &self,
        home: &Home,
        settings: &Settings,
        base: &BaseId,
        request: &WriteRequest,
        n: usize,
        notices: &mut Vec<Notice>,
    ) -> Result<Vec<Member>, ApiError> {
        if let Some(choices) = &request.adapters {
            return Ok(vec![self.asked_for(home, base, choices)?; n]);
        }
        let plain = Member::of(base);
        let mut all = plain.clone();
        let mut each = Vec::new();
        for adapter in home.store.active_adapters(base)? {
            match self.adapter_weights(home, &adapter) {
                Ok(weights) => {
                    let mut alone = Member::of(base);
                    for member in [&mut all, &mut alone] {
                        weights.join(&mut member.adapters, adapter.strength);
                        member.name.push_str(&format!(" + {}", adapter.name));
                    }
                    each.push(alone);
                }
                // An active adapter that cannot be read must not keep the person from writing.
                Err(error) => notices.push(Notice {
                    code: NoticeCode::AdapterSkipped,
                    message: format!("The adapter {} could not be used: {} It was left out.", adapter.name, error.message),
                }),
            }
        }
        let member = |index: usize| match index % ROUND {
            1 if each.len() > 1 => each[index / ROUND % each.len()].clone(),
            2 if settings.member_variety => all.clone().calm(),
            3 => plain.clone(),
            _ => all.clone(),
        };
        let mut members: Vec<Member> = (0..n).map(member).collect();
        if settings.genre_prompts
            && let Some(blended) = self.base(base)?.genre_prompt(&request.genres)
        {
            // A soft prompt of the person's own stands alone.
            for member in members.iter_mut().filter(|member| member.adapters.soft_prompt.is_none()) {
                member.adapters.soft_prompt = Some(blended.clone());
            }
        }
        Ok(members)
    }

    /// A member unlike `winner` when all that wrote were alike: the plain base, or a calmer hand.
    pub(crate) fn another_member(
        &self,
        home: &Home,
        settings: &Settings,
        request: &WriteRequest,
        winner: &Member,
    ) -> Result<Member, ApiError> {
        if request.adapters.is_none() {
            let base = self.writing_base(request.base.as_ref(), &settings.default_base)?;
            let round = self.members(home, settings, &base, request, ROUND, &mut Vec::new())?;
            if let Some(other) = round.into_iter().rev().find(|member| member.name != winner.name) {
                return Ok(other);
            }
        }
        Ok(winner.clone().calm())
    }

    fn asked_for(&self, home: &Home, base: &BaseId, choices: &[AdapterChoice]) -> Result<Member, ApiError> {
        let mut member = Member::of(base);
        let mut soft_prompts = 0;
        for choice in choices {
            let adapter = home.store.adapter(&choice.id)?;
            soft_prompts += usize::from(adapter.kind.is_soft_prompt());
            self.adapter_weights(home, &adapter)?.join(&mut member.adapters, choice.strength);
            member.name.push_str(&format!(" + {}", adapter.name));
        }
        if choices.len() == 2 && soft_prompts != 1 {
            return Err(ApiError::field("adapters", "These two adapters are of the same kind.")
                .hint("Choose one soft prompt, one LoRA or DoRA, or one of each."));
        }
        Ok(member)
    }
}
