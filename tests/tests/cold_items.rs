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
const USERS: usize = 400;
/// Among 11: chance is .091, and four spreads of 400 users are .058.
const ABOVE_CHANCE: f64 = 0.15;

fn table(bundle: &Bundle, component: &str) -> EmbeddingTable {
    let (name, bytes) = bundle.single(component).unwrap();
    EmbeddingTable::load(&Checkpoint::from_bytes(name, bytes).unwrap()).unwrap()
}

/// Every item of the shop comes a second time, as one nobody has met: what the graph knows of it is
/// gone, its picture and its title stay. Each user then chooses among 11 such items, of which one looks
/// and reads like something they bought.
#[test]
fn cold_items_find_the_users_who_bought_what_is_like_them() {
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
        let bought = user.events.iter().rfind(|event| event.behaviour == Behaviour::Buy);
        let Some(liked) = bought.map(|event| event.item as usize) else { continue };
        users += 1;
        let history = user.events.iter().map(|event| Interaction {
            behaviour: Some(event.behaviour.name().into()),
            ..Interaction::new(items[event.item as usize].id.clone())
        });
        let mut random = Random::stream(USERS_SEED, place as u64);
        let mut candidates = vec![liked];
        while candidates.len() < 11 {
            let other = random.below(items.len() as u64) as usize;
            let met = user.events.iter().any(|event| event.item as usize == other);
            if !met && !candidates.contains(&other) {
                candidates.push(other);
            }
        }
        let request = Request {
            history: history.collect(),
            candidates: Some(candidates.iter().map(|&item| cold(item)).collect()),
            k: 1,
            ..Request::default()
        };
        let answer = block_on(tmf.recommend(&request)).unwrap();
        hits += i32::from(answer.items[0].id == cold(liked));
    }
    let hit_rate = f64::from(hits) / f64::from(users);
    assert!(hit_rate > ABOVE_CHANCE, "hit_rate@1 of cold items {hit_rate}, {users} users");
}
