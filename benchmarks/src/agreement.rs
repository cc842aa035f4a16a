//! How often quantised folders of TMF choose what the original chooses, and how often each is right.

use std::cell::RefCell;
use std::path::Path;

use tributary::bundle;
use tributary::data::Dataset;
use tributary::evaluate::{Candidates, EvaluateOptions, evaluate};
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::sequence::{RepeatedItems, SeenItems};
use tributary_core::recommend::{ItemIndex, Question, Recommender, Scorer, Scores};

use crate::Outcome;

/// A scorer whose first choices are written down.
struct Recorded<'a, S> {
    scorer: &'a S,
    choices: RefCell<Vec<usize>>,
}

impl<S: Scorer> Scorer for Recorded<'_, S> {
    fn num_items(&self) -> usize {
        self.scorer.num_items()
    }

    fn seen_items(&self) -> SeenItems {
        self.scorer.seen_items()
    }

    fn repeated_items(&self) -> RepeatedItems {
        self.scorer.repeated_items()
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        self.scorer.score_batch(histories).await
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let answers = self.scorer.answer_batch(questions).await?;
        let first = |answer: &Scores| {
            let best = answer.scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(place, _)| place)
        };
        self.choices.borrow_mut().extend(answers.iter().map(first));
        Ok(answers)
    }
}

/// The table: the first folder is what the others are compared with.
pub fn table(data: &Path, folders: &[&str]) -> Outcome<()> {
    let mut data = Dataset::read(data)?;
    data.hold_out("buy")?;
    let options = EvaluateOptions {
        candidates: Candidates::Sampled { num_candidates: 11, seed: 1 },
        k: vec![1],
        ..EvaluateOptions::default()
    };
    // Tables on stdout are what this program is for; see main.rs.
    println!("| folder | hit_rate@1 of {} | same first choice |", data.name);
    println!("|---|---|---|");
    let mut original: Option<Vec<usize>> = None;
    for folder in folders {
        let scorer = &bundle::open(Path::new(folder))?.tmf_recommender(&Cpu::new())?;
        let recorded = Recorded { scorer, choices: RefCell::default() };
        let evaluation = evaluate(&recorded, scorer.catalogue(), &data, &options, |_, _| ())?;
        let choices = recorded.choices.into_inner();
        let original = original.get_or_insert_with(|| choices.clone());
        let same = original.iter().zip(&choices).filter(|(a, b)| a == b).count();
        let share = 100.0 * same as f64 / choices.len().max(1) as f64;
        let hit = evaluation.metrics.get("hit_rate@1").copied().unwrap_or(f64::NAN);
        println!("| {folder} | {hit:.4} | {share:.1} % of {} |", choices.len());
    }
    Ok(())
}
