//! What training does with prompts: several examples with their answers in one pass. It must be what
//! serving computes from the same prompts, and its gradient must reach the soft tokens.
#![expect(clippy::clone_on_copy, reason = "one body serves backends that are Copy and others")]

use std::sync::Arc;

use pollster::block_on;
use tributary::burn_backend::{Burn, BurnDevice, BurnOptions, Trainable};
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::{Llama, Rows};
use tributary_core::nn::{Branches, KvUse};
use tributary_core::prompt::{Hybrid, Level, PromptBuilder, PromptRequest, Template};
use tributary_core::session::{Likelihood, Session, SoftTokens, Trie};
use tributary_tests::tiny_tmf::{HIDDEN, TITLES, config, llama};
use tributary_tests::tiny_tokenizer::bytes;
use tributary_tests::{on_each_backend, uniform};

const CANDIDATES: [u32; 4] = [0, 1, 4, 6];

fn builder() -> PromptBuilder {
    let config = config(Level::Item);
    let templates = Template::defaults().unwrap();
    let tokenizer = Arc::new(bytes());
    let mut builder =
        PromptBuilder::new(&tokenizer, &templates, &config.behaviours, config.prompt).unwrap();
    for title in TITLES {
        builder.names_mut().push(title, "id");
    }
    builder
}

/// Three examples of different lengths, wordings and levels, with or without their answers.
fn examples(answers: bool) -> Vec<Hybrid> {
    let builder = builder();
    let histories: [&[(u32, u32)]; 3] = [&[(2, 0), (3, 1)], &[(5, 2)], &[(7, 0), (8, 0), (3, 2)]];
    let levels = [Level::Item, Level::Behaviour, Level::Item];
    let build = |n: usize| {
        let request = PromptRequest {
            template: n,
            level: levels[n],
            history: histories[n],
            target_behaviour: 2,
            candidates: &CANDIDATES,
            listed: true,
            seed: n as u64,
            answer: answers.then_some(n),
        };
        builder.build(&request).unwrap()
    };
    (0..3).map(build).collect()
}

fn soft_rows(examples: &[Hybrid]) -> (Vec<f32>, usize) {
    let count = examples.iter().map(|example| example.soft.len()).sum();
    (uniform(8, count * HIDDEN), count)
}

/// The loss of every answer token of the packed examples: (answer tokens, 1).
fn losses<B: Backend>(
    b: &B,
    model: &Llama<B>,
    examples: &[Hybrid],
    soft: &B::Tensor,
) -> tributary_core::Result<B::Tensor> {
    let lengths: Vec<usize> = examples.iter().map(|example| example.token_ids.len()).collect();
    let segments = Segments::new(&lengths)?;
    let (mut ids, mut places) = (Vec::new(), Vec::new());
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for example in examples {
        let first = ids.len();
        places.extend(example.soft.iter().map(|soft| (first + soft.position) as u32));
        rows.extend(example.answer.clone().map(|position| (first + position - 1) as u32));
        targets.extend_from_slice(&example.token_ids[example.answer.clone()]);
        ids.extend_from_slice(&example.token_ids);
    }
    let positions = segments.positions(0);
    let at = Rows { segments: &segments, positions: &positions };
    let hidden = model.embed_soft(b, &ids, &places, soft)?;
    let hidden = model.forward(b, hidden, at, KvUse::None, None)?;
    b.cross_entropy(&model.logits(b, &b.gather_rows(&hidden, &rows)?)?, &targets)
}

#[test]
fn packed_examples_lose_what_serving_scores() {
    on_each_backend!(backend, b => {
        let model = Arc::new(llama(&b, 1));
        let told = examples(true);
        let (values, count) = soft_rows(&told);
        let soft = b.upload(&values, [count, HIDDEN]).unwrap();
        let mut losses =
            block_on(b.read(&losses(&b, &model, &told, &soft).unwrap())).unwrap().into_iter();
        let builder = builder();
        let names = CANDIDATES.map(|item| builder.names().tokens(item).unwrap());
        let trie = Trie::new(&names, 1).unwrap();
        let mut first = 0;
        for (n, (asked, told)) in examples(false).iter().zip(&told).enumerate() {
            assert_eq!(asked.soft, told.soft, "an answer holds no soft token");
            let last = first + told.soft.len() as u32;
            let rows = b.gather_rows(&soft, &(first..last).collect::<Vec<u32>>()).unwrap();
            first = last;
            let positions: Vec<u32> = asked.soft.iter().map(|soft| soft.position as u32).collect();
            let identities: Vec<u64> = (0..positions.len() as u64).collect();
            let soft =
                SoftTokens { positions: &positions, identities: &identities, rows: &rows };
            let mut session = Session::new(b.clone(), model.clone(), 2000).unwrap();
            session.prefill_soft(&asked.token_ids, &soft).unwrap();
            let scores = block_on(session.score_names(&trie, Likelihood::Sum)).unwrap();
            let loss: f32 = losses.by_ref().take(told.answer.len()).sum();
            assert!((loss + scores[n]).abs() < 1e-3, "{backend} {n}: {loss}, {}", scores[n]);
        }
        assert_eq!(losses.next(), None);
    });
}

/// Every prompt with all its candidates behind it, in one pass without a cache.
#[test]
fn branches_of_many_prompts_lose_what_serving_scores() {
    on_each_backend!(backend, b => {
        let model = Arc::new(llama(&b, 1));
        let builder = builder();
        let names = CANDIDATES.map(|item| builder.names().tokens(item).unwrap());
        let trie = Trie::new(&names, 1).unwrap();
        let asked = examples(false);
        let (values, count) = soft_rows(&asked);
        let soft = b.upload(&values, [count, HIDDEN]).unwrap();

        let (mut ids, mut lengths, mut trunks) = (Vec::new(), Vec::new(), Vec::new());
        let (mut places, mut rows, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in &asked {
            places.extend(prompt.soft.iter().map(|soft| (ids.len() + soft.position) as u32));
            ids.extend_from_slice(&prompt.token_ids);
            let (closing, trunk) = (ids.len() as u32 - 1, lengths.len());
            lengths.push(prompt.token_ids.len());
            trunks.push(trunk);
            for name in names {
                let first = ids.len() as u32;
                rows.extend(std::iter::once(closing).chain(first..).take(name.len() + 1));
                targets.extend(name.iter().chain([&1]));
                ids.extend_from_slice(name);
                lengths.push(name.len());
                trunks.push(trunk);
            }
        }
        let segments = Segments::new(&lengths).unwrap();
        let branches = Branches::new(&segments, &trunks).unwrap();
        let at = Rows { segments: &segments, positions: branches.positions() };
        let hidden = model.embed_soft(&b, &ids, &places, &soft).unwrap();
        let hidden = model.forward(&b, hidden, at, KvUse::Branch(&branches), None).unwrap();
        let logits = model.logits(&b, &b.gather_rows(&hidden, &rows).unwrap()).unwrap();
        let losses = block_on(b.read(&b.cross_entropy(&logits, &targets).unwrap())).unwrap();
        let mut losses = losses.into_iter();

        let mut first = 0;
        for prompt in &asked {
            let last = first + prompt.soft.len() as u32;
            let rows = b.gather_rows(&soft, &(first..last).collect::<Vec<u32>>()).unwrap();
            first = last;
            let positions: Vec<u32> = prompt.soft.iter().map(|soft| soft.position as u32).collect();
            let identities: Vec<u64> = (0..positions.len() as u64).collect();
            let soft = SoftTokens { positions: &positions, identities: &identities, rows: &rows };
            let mut session = Session::new(b.clone(), model.clone(), 2000).unwrap();
            session.prefill_soft(&prompt.token_ids, &soft).unwrap();
            let scores = block_on(session.score_names(&trie, Likelihood::Sum)).unwrap();
            for (name, score) in names.iter().zip(scores) {
                let loss: f32 = losses.by_ref().take(name.len() + 1).sum();
                assert!((loss + score).abs() < 1e-3, "{backend}: {loss}, {score}");
            }
        }
        assert_eq!(losses.next(), None);
    });
}

#[test]
fn a_branch_stands_behind_a_trunk() {
    let segments = Segments::new(&[3, 2, 0, 4]).unwrap();
    let branches = Branches::new(&segments, &[0, 0, 0, 3]).unwrap();
    assert_eq!(branches.positions(), [0, 1, 2, 3, 4, 0, 1, 2, 3]);
    for trunks in [&[0, 0, 0][..], &[0, 0, 0, 4], &[0, 0, 1, 3]] {
        let error = Branches::new(&segments, trunks).unwrap_err().to_string();
        assert!(error.contains("trunks"), "{error}");
    }
}

#[test]
fn the_gradient_reaches_every_soft_token() {
    let options =
        BurnOptions { trainable: Trainable::Everything, seed: 5, ..BurnOptions::default() };
    let b = Burn::new(BurnDevice::Cpu, options).unwrap();
    let model = llama(&b, 1);
    let told = examples(true);
    let (values, count) = soft_rows(&told);
    b.training(1);
    let soft = b.variable(&values, [count, HIDDEN]).unwrap();
    let loss = losses(&b, &model, &told, &soft).unwrap();
    let gradient = b.backward(&loss).unwrap().of(&soft).expect("soft rows are part of the loss");
    let gradient = block_on(b.read(&gradient)).unwrap();
    for (row, gradient) in gradient.chunks(HIDDEN).enumerate() {
        assert!(gradient.iter().any(|value| *value != 0.0), "soft token {row} of {count}");
    }
    // Along one direction of all rows, against central differences.
    let direction = uniform(9, values.len());
    let loss_at = |distance: f32| -> f64 {
        let moved = values.iter().zip(&direction).map(|(value, d)| value + distance * d);
        let moved = b.upload(&moved.collect::<Vec<f32>>(), [count, HIDDEN]).unwrap();
        let loss = block_on(b.read(&losses(&b, &model, &told, &moved).unwrap())).unwrap();
        loss.into_iter().map(f64::from).sum()
    };
    let h = 0.01;
    let near = f64::from(h);
    let numeric =
        (8.0 * (loss_at(h) - loss_at(-h)) - (loss_at(2.0 * h) - loss_at(-2.0 * h))) / (12.0 * near);
    let analytic: f64 =
        gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
    let far = (analytic - numeric).abs() / numeric.abs();
    assert!(far < 2e-3, "{analytic} is not {numeric}");
}
