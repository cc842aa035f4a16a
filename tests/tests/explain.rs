//! Why an item was recommended, and what stays when a modality is hidden, on the demo bundle.

use pollster::block_on;
use tributary::bundle::demo;
use tributary::shop_pictures;
use tributary_core::ErrorKind;
use tributary_core::backend::cpu::Cpu;
use tributary_core::preprocess::decode;
use tributary_core::recommend::{
    CatalogueItem, EmbeddingTable, Interaction, ItemId, Kind, MAX_EXPLAINED, Modality, Recommender,
    Request, explain,
};
use tributary_core::shop;

fn kind() -> Kind<Cpu> {
    Kind::load(&demo().unwrap(), &Cpu::new()).unwrap()
}

fn request(kind: &Kind<Cpu>, places: &[u32]) -> Request {
    let history = places.iter().map(|&place| Interaction {
        behaviour: Some("view".into()),
        ..Interaction::new(kind.catalogue().get(place).unwrap().id.clone())
    });
    Request { history: history.collect(), ..Request::default() }
}

fn scores(kind: &Kind<Cpu>, request: &Request) -> Vec<(ItemId, f32)> {
    let request = Request { k: usize::MAX, ..request.clone() };
    let answer = block_on(kind.recommend(&request)).unwrap();
    answer.items.into_iter().map(|item| (item.id, item.score)).collect()
}

fn score(scores: &[(ItemId, f32)], id: &ItemId) -> f32 {
    scores.iter().find(|(other, _)| other == id).unwrap().1
}

/// How many rows a pass computes depends on what is cached, and so does the order of its sums.
fn assert_near(found: f32, expected: f32, what: &str) {
    assert!((found - expected).abs() < 1e-4, "{what}: {found}, expected {expected}");
}

#[test]
fn a_change_is_the_score_less_the_score_without() {
    let kind = kind();
    let asked = request(&kind, &[3, 70, 3, 150]);
    let all = scores(&kind, &asked);
    let first = [all[0].0.clone(), all[1].0.clone()];
    let modalities = kind.modalities();
    assert_eq!(modalities, Modality::ALL);
    let explanations = block_on(explain(&kind, &asked, &first, &modalities)).unwrap();
    assert_eq!(explanations.len(), 2);
    for explanation in &explanations {
        assert_near(explanation.score, score(&all, &explanation.id), explanation.id.as_str());
        assert_eq!((explanation.by_item.len(), explanation.by_modality.len()), (3, 3));
        for change in &explanation.by_item {
            let mut without = asked.clone();
            without.history.retain(|event| event.item != change.id);
            without.exclude.push(change.id.clone());
            let expected = explanation.score - score(&scores(&kind, &without), &explanation.id);
            assert_near(change.change, expected, change.id.as_str());
        }
        for change in &explanation.by_modality {
            let without = Request { hide: vec![change.modality], ..asked.clone() };
            let expected = explanation.score - score(&scores(&kind, &without), &explanation.id);
            assert_near(change.change, expected, &format!("{:?}", change.modality));
            assert_ne!(change.change, 0.0, "{:?} is part of every token", change.modality);
        }
        assert!(explanation.by_item.is_sorted_by(|a, b| a.change >= b.change));
        assert!(explanation.by_modality.is_sorted_by(|a, b| a.change >= b.change));
    }
}

#[test]
fn what_was_hidden_comes_back() {
    let kind = kind();
    let asked = request(&kind, &[3, 70, 150]);
    let before = scores(&kind, &asked);
    for modality in Modality::ALL {
        let hidden = scores(&kind, &Request { hide: vec![modality], ..asked.clone() });
        assert_ne!(hidden, before, "{modality:?}");
    }
    let nothing = scores(&kind, &Request { hide: Modality::ALL.to_vec(), ..asked.clone() });
    // Without any modality items differ by nothing but their place.
    let (best, worst) = (nothing[0].1, nothing.last().unwrap().1);
    assert!((best - worst).abs() < 1e-3, "{best} to {worst}");
    // The caches keep hidden and shown apart.
    for (id, now) in scores(&kind, &asked) {
        assert_near(now, score(&before, &id), id.as_str());
    }
}

#[test]
fn a_single_event_is_compared_with_knowing_nothing() {
    let kind = kind();
    let asked = request(&kind, &[42]);
    let first = scores(&kind, &asked)[0].0.clone();
    let explanation = block_on(explain(&kind, &asked, &[first], &[])).unwrap().remove(0);
    assert_eq!(explanation.by_item.len(), 1);
    assert!(explanation.by_item[0].change > 0.0, "{explanation:?}");
    assert!(explanation.by_modality.is_empty());
}

#[test]
fn long_histories_are_explained_by_their_end_and_unranked_items_are_refused() {
    let kind = kind();
    let places: Vec<u32> = (0..40).collect();
    let asked = request(&kind, &places);
    let first = scores(&kind, &asked)[0].0.clone();
    let explanation = block_on(explain(&kind, &asked, &[first], &[])).unwrap().remove(0);
    assert_eq!(explanation.by_item.len(), MAX_EXPLAINED);
    let seen = asked.history[0].item.clone();
    let error = block_on(explain(&kind, &asked, std::slice::from_ref(&seen), &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains(seen.as_str()), "{error}");
}

/// The encoder that the bundle takes along makes the rows that its tables hold, as far as q8 goes.
#[test]
fn the_bundles_encoder_is_the_one_of_its_tables() {
    let bundle = demo().unwrap();
    let encoder = bundle.encoder(&Cpu::new()).unwrap().unwrap();
    let table =
        |component: &str| EmbeddingTable::load(&bundle.checkpoint(component).unwrap()).unwrap();
    let (images, texts) = (table("image"), table("text"));
    let catalogue = bundle.catalogue().unwrap().unwrap();
    let looks = shop::looks();
    for place in [0, 77, 311, 598] {
        let item: &CatalogueItem = catalogue.get(place as u32).unwrap();
        let picture = decode("picture", &shop_pictures::picture(&looks[place]).unwrap()).unwrap();
        let image = block_on(encoder.embed_pictures(&[picture])).unwrap().remove(0);
        let text = block_on(encoder.embed_texts(&[&item.text().unwrap()])).unwrap().remove(0);
        for (name, found, row) in
            [("image", image, images.row(place)), ("text", text, texts.row(place))]
        {
            let cosine = cosine(&found, row.unwrap());
            assert!(cosine > 0.995, "{name} of {}: cosine {cosine}", item.id);
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
