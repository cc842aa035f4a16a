//! A cold item, known by its picture and its title alone, is recommended to users whose preferences
//! match it.

use pollster::block_on;
use tributary::bundle::{Bundle, demo};
use tributary_core::backend::cpu::Cpu;
use tributary_core::random::Random;
use tributary_core::recommend::{
    CatalogueItem, EmbeddingTable, Interaction, ItemId, Recommender, Request,
};
use tributary_core::shop::{self, Behaviour};
use tributary_core::weights::Checkpoint;

/// Users whom neither training nor any choice of the bundle has seen.
const USERS_SEED: u64 = 41;
const USERS: usize = 600;
fn table(bundle: &Bundle, component: &str) -> EmbeddingTable {
    let (name, bytes) = bundle.single(component).unwrap();
    EmbeddingTable::load(&Checkpoint::from_bytes(name, bytes).unwrap()).unwrap()
}

/// What a user did, and which item, as one that nobody has met, is to be first of 11 for them.
struct Question {
    history: Vec<Interaction>,
    right: usize,
}

/// The share of users for whom the right cold item comes first. Every item of the shop comes a second time, as
/// one nobody has met: what the graph knows of it is gone, its picture and its title stay.
fn hit_rate(ask: impl Fn(&[CatalogueItem], &shop::ShopUser) -> Option<Question>) -> f64 {
    let bundle = demo().unwrap();
    let (images, texts) = (table(&bundle, "image"), table(&bundle, "text"));
    let mut tmf = bundle.tmf_recommender(&Cpu::new()).unwrap();
    let items: Vec<CatalogueItem> = tmf.catalogue().items().to_vec();
    let cold = |item: usize| ItemId::from(format!("new-{}", items[item].id.as_str()));
    for (place, item) in items.iter().enumerate() {
        let new = CatalogueItem { id: cold(place), ..item.clone() };
        tmf.add_item(new, images.row(place), texts.row(place)).unwrap();
    }
    let (mut hits, mut users) = (0, 0);
    for (place, user) in shop::users(USERS, USERS_SEED).iter().enumerate() {
        let Some(Question { history, right }) = ask(&items, user) else { continue };
        users += 1;
        let mut random = Random::stream(USERS_SEED, place as u64);
        let mut candidates = vec![right];
        while candidates.len() < shop::NUM_CANDIDATES {
            let other = random.below(items.len() as u64) as usize;
            let met = user.events.iter().any(|event| event.item as usize == other);
            if !met && !candidates.contains(&other) {
                candidates.push(other);
            }
        }
        let request = Request {
            history,
            candidates: Some(candidates.iter().map(|&item| cold(item)).collect()),
            k: 1,
            ..Request::default()
        };
        let answer = block_on(tmf.recommend(&request)).unwrap();
        hits += i32::from(answer.items[0].id == cold(right));
    }
    assert!(users > USERS * 9 / 10, "only {users} users buy");
    f64::from(hits) / users as f64
}

fn interactions(items: &[CatalogueItem], events: &[shop::Event]) -> Vec<Interaction> {
    let interaction = |event: &shop::Event| Interaction {
        behaviour: Some(event.behaviour.name().into()),
        ..Interaction::new(items[event.item as usize].id.clone())
    };
    events.iter().map(interaction).collect()
}

fn last_bought(user: &shop::ShopUser) -> Option<u32> {
    let buys = |event: &&shop::Event| event.behaviour == Behaviour::Buy;
    user.events.iter().rfind(buys).map(|event| event.item)
}

/// One of the 11 looks and reads like what the user bought last.
#[test]
fn cold_items_find_the_users_who_bought_what_is_like_them() {
    let hit_rate = hit_rate(|items, user| {
        let right = last_bought(user)? as usize;
        Some(Question { history: interactions(items, &user.events), right })
    });
    println!("by likeness: {hit_rate:.4}");
    assert!(hit_rate > 0.6, "{hit_rate}: chance is .091");
}

/// One of the 11 is what the user buys next; the history ends before they first meet it.
#[test]
fn cold_items_find_the_users_who_will_buy_them() {
    let hit_rate = hit_rate(|items, user| {
        let right = last_bought(user)?;
        let met = user.events.iter().position(|event| event.item == right)?;
        let history = interactions(items, &user.events[..met]);
        (!history.is_empty()).then_some(Question { history, right: right as usize })
    });
    println!("by taste: {hit_rate:.4}");
    assert!(hit_rate > 0.25, "{hit_rate}: chance is .091");
}
