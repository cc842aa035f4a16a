//! Metrics against their definitions, expectations against enumeration and against real draws.

use tributary_core::metrics::{AtK, Denominator, RankingMetrics, sample};
use tributary_core::random::Random;

#[test]
fn metrics_of_one_rank_are_their_definitions() {
    let at = AtK::at(2, 5);
    assert_eq!((at.hit_rate, at.ndcg, at.mrr), (1.0, 0.5, 1.0 / 3.0));
    assert_eq!(AtK::at(0, 1), AtK { hit_rate: 1.0, ndcg: 1.0, mrr: 1.0 });
    assert_eq!(AtK::at(5, 5), AtK::default());
}

#[test]
fn means_say_what_they_are_over() {
    let mut metrics = RankingMetrics::new(&[1, 10]).unwrap();
    metrics.add(0);
    metrics.add(3);
    metrics.add_missed();
    metrics.add_missed();
    let all = metrics.by_name(Denominator::OverAllUsers);
    let retrieved = metrics.by_name(Denominator::OverRetrievedUsers);
    assert_eq!((all["hit_rate@1"], all["hit_rate@10"]), (0.25, 0.5));
    assert_eq!((retrieved["hit_rate@1"], retrieved["hit_rate@10"]), (0.5, 1.0));
    assert_eq!(all["recall@10"], all["hit_rate@10"]);
    assert_eq!((all["mrr@10"], all["mrr@1"]), (1.25 / 4.0, 0.25));
    assert_eq!((metrics.users(), metrics.retrieved_users()), (4, 2));
    assert_eq!(Denominator::OverAllUsers.name(), "over_all_users");
    assert_eq!(Denominator::OverRetrievedUsers.name(), "over_retrieved_users");
}

#[test]
fn a_k_of_zero_is_refused() {
    for ks in [&[][..], &[5, 0][..]] {
        let error = RankingMetrics::new(ks).unwrap_err().to_string();
        assert!(error.contains("above 0"), "{error}");
    }
    let empty = RankingMetrics::new(&[3]).unwrap();
    assert_eq!(empty.by_name(Denominator::OverAllUsers)["ndcg@3"], 0.0);
}

/// The mean of `AtK::at` over every subset of `draws` of `eligible` items, the first `better` of
/// which rank before the target.
fn enumerated(better: usize, eligible: usize, draws: usize, k: usize) -> AtK {
    let (mut sum, mut subsets) = (AtK::default(), 0.0);
    for subset in 0u32..1 << eligible {
        if subset.count_ones() as usize != draws {
            continue;
        }
        let at = AtK::at((subset & ((1 << better) - 1)).count_ones() as usize, k);
        sum.hit_rate += at.hit_rate;
        sum.ndcg += at.ndcg;
        sum.mrr += at.mrr;
        subsets += 1.0;
    }
    AtK { hit_rate: sum.hit_rate / subsets, ndcg: sum.ndcg / subsets, mrr: sum.mrr / subsets }
}

fn assert_close(found: AtK, expected: AtK, bound: f64, what: &str) {
    for (found, expected) in [
        (found.hit_rate, expected.hit_rate),
        (found.ndcg, expected.ndcg),
        (found.mrr, expected.mrr),
    ] {
        assert!((found - expected).abs() <= bound, "{what}: {found} {expected}");
    }
}

#[test]
fn the_exact_expectation_is_the_mean_over_all_draws() {
    for eligible in [1, 2, 5, 9] {
        for better in 0..=eligible {
            for draws in 0..=eligible {
                for k in [1, 2, 3, 10] {
                    let found = AtK::expected(better, eligible, draws, k);
                    let expected = enumerated(better, eligible, draws, k);
                    let what = format!("better {better} of {eligible}, {draws} draws, k {k}");
                    assert_close(found, expected, 1e-12, &what);
                }
            }
        }
    }
}

#[test]
fn the_exact_expectation_is_stable_where_probabilities_underflow() {
    // A million items, half of them better: P(no better one among 100,000) is about 10^-34000.
    let at = AtK::expected(500_000, 1_000_000, 100_000, 50_000);
    assert!(at.hit_rate.is_finite() && (0.45..0.55).contains(&at.hit_rate), "{at:?}");
    assert!(at.mrr > 1.0 / 51_000.0 * 0.45 && at.mrr < 1.0 / 49_000.0, "{at:?}");
    // Everything drawn: the full rank, whatever k.
    assert_close(AtK::expected(7, 1000, 5000, 10), AtK::at(7, 10), 1e-9, "all drawn");
    // Nobody is better.
    assert_close(AtK::expected(0, 1000, 99, 1), AtK::at(0, 1), 1e-12, "best");
    // Everybody is.
    assert_close(AtK::expected(1000, 1000, 99, 100), AtK::at(99, 100), 1e-12, "worst");
}

#[test]
fn drawn_candidates_scatter_around_the_expectation() {
    let eligible: Vec<u32> = (0..500).collect();
    let (better, draws, k) = (30, 20, 2);
    let mut random = Random::new(7);
    let runs = 20_000;
    let mut hits = 0;
    for _ in 0..runs {
        let drawn = sample(&mut random, &eligible, draws);
        let mut distinct = drawn.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), draws);
        hits += usize::from(drawn.iter().filter(|&&item| item < better).count() < k);
    }
    let found = hits as f64 / runs as f64;
    let expected = AtK::expected(better as usize, 500, draws, k).hit_rate;
    assert!((found - expected).abs() < 0.015, "{found} {expected}");
}

#[test]
fn samples_are_the_same_for_the_same_seed_everywhere() {
    // SplitMix64's published first outputs for seed 1234567.
    let mut random = Random::new(1_234_567);
    let expected =
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!([(); 3].map(|()| random.next_u64()), expected);
    let eligible: Vec<u32> = (0..100).collect();
    let draw = |seed| sample(&mut Random::new(seed), &eligible, 5);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert_eq!(sample(&mut Random::new(1), &[4, 2], 9).len(), 2);
}
