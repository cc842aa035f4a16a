//! Metrics against their definitions, expectations against enumeration and against real draws.

use std::collections::HashSet;

use tributary_core::metrics::{
    AtK, BootstrapDistribution, Denominator, Differences, ListMetrics, RankMetric, RankingMetrics,
    auc, sample, self_information,
};
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

/// `items` items with random embeddings of 3 columns, some of them absent or zero.
fn embeddings(random: &mut Random, items: usize) -> Vec<Option<Vec<f32>>> {
    let row = |random: &mut Random| match random.below(8) {
        0 => None,
        1 => Some(vec![0.0; 3]),
        _ => Some((0..3).map(|_| random.normal() as f32).collect()),
    };
    (0..items).map(|_| row(random)).collect()
}

/// 1 - cosine over all pairs, as it is written down; `None` without a pair.
fn pairwise_diversity(rows: &[&[f32]]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (i, a) in rows.iter().enumerate() {
        for b in &rows[..i] {
            sum += 1.0 - dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt());
            pairs += 1.0;
        }
    }
    (pairs > 0.0).then(|| sum / pairs)
}

#[test]
fn metrics_of_lists_are_their_definitions() {
    // 4 users: 2 of them have item 0, all have item 1, nobody has item 2.
    let information = self_information(&[2, 4, 0], 4);
    assert_eq!(information, [1.0, 0.0, 5_f64.log2()]);
    let table = [[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]];
    let mut lists =
        ListMetrics::new(&[2, 1, 5], information, Some(Box::new(|i| Some(&table[i as usize]))));
    lists.add(&[0, 1]).unwrap();
    lists.add(&[0, 2]).unwrap();
    lists.add(&[]).unwrap();
    let found = lists.by_name();
    assert_eq!((found["catalogue_coverage@1"], found["catalogue_coverage@2"]), (1.0 / 3.0, 1.0));
    assert_eq!(found["novelty@1"], 1.0);
    assert_eq!(found["novelty@2"], (0.5 + (1.0 + 5_f64.log2()) / 2.0) / 2.0);
    // The first user's two are at a right angle, the second's point the same way.
    assert_eq!(found["intra_list_diversity@2"], 0.5);
    assert_eq!(found["intra_list_diversity@5"], 0.5, "lists that are shorter than k");
    assert!(!found.contains_key("intra_list_diversity@1"), "one item is no pair: {found:?}");

    let without = ListMetrics::new(&[2], self_information(&[1], 1), None);
    let names: Vec<_> = without.by_name().into_keys().collect();
    assert_eq!(names, ["catalogue_coverage@2"], "nothing to be a mean of");
    let mut lists = ListMetrics::new(&[2], vec![0.0; 3], None);
    let error = lists.add(&[3]).unwrap_err().to_string();
    assert!(error.contains("items below 3"), "{error}");
}

#[test]
fn metrics_of_lists_match_their_twins() {
    let (items, users, ks) = (40, 50, [1, 3, 10, 100]);
    let mut random = Random::new(5);
    let rows = embeddings(&mut random, items);
    let counts: Vec<u64> = (0..items).map(|_| random.below(9)).collect();
    let information = self_information(&counts, 8);
    let embedding = |item: u32| rows[item as usize].as_deref();
    let mut metrics = ListMetrics::new(&ks, information.clone(), Some(Box::new(embedding)));
    let all: Vec<u32> = (0..items as u32).collect();
    let lists: Vec<Vec<u32>> =
        (0..users).map(|user| sample(&mut random, &all, user % 12)).collect();
    lists.iter().for_each(|list| metrics.add(list).unwrap());
    let found = metrics.by_name();
    for k in ks {
        let cut = || lists.iter().map(|list| &list[..k.min(list.len())]);
        let covered: HashSet<u32> = cut().flatten().copied().collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let bits = |list: &[u32]| mean(list.iter().map(|&i| information[i as usize]).collect());
        let novelty = mean(cut().filter(|list| !list.is_empty()).map(bits).collect());
        let length = |row: &&[f32]| row.iter().any(|value| *value != 0.0);
        let rows = |list: &[u32]| -> Vec<&[f32]> {
            list.iter().filter_map(|&item| embedding(item)).filter(length).collect()
        };
        let diversity: Vec<f64> =
            cut().filter_map(|list| pairwise_diversity(&rows(list))).collect();
        let near = |name: &str, expected: f64| {
            let found = found[&format!("{name}@{k}")];
            assert!((found - expected).abs() < 1e-12, "{name}@{k}: {found} {expected}");
        };
        near("catalogue_coverage", covered.len() as f64 / items as f64);
        near("novelty", novelty);
        if k > 1 {
            near("intra_list_diversity", mean(diversity));
        }
    }
}

#[test]
fn auc_counts_pairs_and_half_of_the_ties() {
    let yes_no = [(0.9, true), (0.4, false), (0.4, true), (0.1, false), (0.7, false)];
    // Of 6 pairs 0.9 wins 3, 0.4 wins one and ties with one.
    assert_eq!(auc(&yes_no).unwrap(), Some(4.5 / 6.0));
    assert_eq!(auc(&[(0.0, true), (-0.0, false)]).unwrap(), Some(0.5), "one score");
    assert_eq!(auc(&[(0.3, true)]).unwrap(), None);
    assert_eq!(auc(&[]).unwrap(), None);
    let error = auc(&[(0.3, true), (f32::NAN, false)]).unwrap_err().to_string();
    assert!(error.contains("NaN at 1"), "{error}");

    let mut random = Random::new(3);
    let labelled: Vec<(f32, bool)> =
        (0..300).map(|_| (random.below(20) as f32 - 10.0, random.percent(30))).collect();
    let (mut won, mut pairs) = (0.0, 0.0);
    for (positive, _) in labelled.iter().filter(|pair| pair.1) {
        for (negative, _) in labelled.iter().filter(|pair| !pair.1) {
            let ordering = positive.partial_cmp(negative).unwrap();
            won += [0.0, 0.5, 1.0][(ordering as i8 + 1) as usize];
            pairs += 1.0;
        }
    }
    let found = auc(&labelled).unwrap().unwrap();
    assert!((found - won / pairs).abs() < 1e-12, "{found} {}", won / pairs);
}

#[test]
fn a_rank_decides_hit_rate_ndcg_mrr_and_auc() {
    let of = |name: &str, rank| RankMetric::parse(name).unwrap().of(rank, 5, None);
    assert_eq!(of("hit_rate@3", Some(2)), 1.0);
    assert_eq!(of("recall@2", Some(2)), 0.0);
    assert_eq!((of("ndcg@3", Some(2)), of("mrr@3", Some(2))), (0.5, 1.0 / 3.0));
    assert_eq!((of("auc", Some(0)), of("auc", Some(1)), of("auc", Some(4))), (1.0, 0.75, 0.0));
    assert_eq!((of("auc", None), of("hit_rate@9", None)), (0.0, 0.0), "a miss");
    assert_eq!(RankMetric::Auc.of(Some(0), 1, None), 1.0, "nobody to compete with");
    // The area is the labelled pairs' of one positive among four negatives.
    let labelled = [(0.5, true), (0.9, false), (0.1, false), (0.2, false), (0.3, false)];
    assert_eq!(auc(&labelled).unwrap(), Some(of("auc", Some(1))));
    // With draws: the expectation.
    let expected = AtK::expected(1, 4, 2, 1).hit_rate;
    assert_eq!(RankMetric::HitRate(1).of(Some(1), 5, Some(2)), expected);
    for name in ["hit_rate@10", "ndcg@1", "mrr@20", "auc"] {
        assert_eq!(RankMetric::parse(name).unwrap().to_string(), name);
    }
    assert_eq!(RankMetric::parse("recall@5").unwrap(), RankMetric::HitRate(5));
    for name in ["hit_rate", "hit_rate@0", "auc@5", "auc@", "map@10", "ndcg@x", ""] {
        let error = RankMetric::parse(name).unwrap_err().to_string();
        assert!(error.contains("hit_rate@k, recall@k"), "{name}: {error}");
    }
}

/// Users of whom `a` percent are hit by the one and `b` percent by the other, one minus the other.
fn bernoulli(users: usize, a: u64, b: u64) -> Vec<f64> {
    let mut random = Random::new(11);
    let mut hit = |percent| f64::from(u8::from(random.percent(percent)));
    (0..users).map(|_| hit(a) - hit(b)).collect()
}

fn distribution(values: Vec<f64>, samples: u64, seed: u64) -> BootstrapDistribution {
    let differences = Differences::new(values, 1).unwrap();
    let means = (0..samples).map(|sample| differences.resample(seed, sample)[0]);
    BootstrapDistribution::new(means.collect()).unwrap()
}

#[test]
fn the_bootstrap_agrees_with_the_normal_approximation() {
    let values = bernoulli(900, 56, 50);
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let error = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n / n).sqrt();
    let found = distribution(values, 100_000, 2);
    for (confidence, z) in [(0.95, 1.959_964), (0.99, 2.575_829)] {
        let [low, high] = found.interval(confidence).unwrap();
        for bound in [mean - low, high - mean] {
            let ratio = bound / (z * error);
            assert!((ratio - 1.0).abs() < 0.03, "{confidence}: {ratio}");
        }
    }
    let p = 2.0 * normal_tail(mean.abs() / error);
    let ratio = found.p_value() / p;
    assert!((0.05..0.8).contains(&p), "a case in which p says something: {p}");
    assert!((ratio - 1.0).abs() < 0.03, "p {} by bootstrap, {p} by approximation", found.p_value());
}

/// P(Z > z) of a standard normal: Simpson's rule over 12 standard deviations.
fn normal_tail(z: f64) -> f64 {
    let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let (steps, width) = (10_000, 12.0 / 10_000.0);
    let weight = |i: usize| if i == 0 || i == steps { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    (0..=steps).map(|i| weight(i) * density(z + i as f64 * width)).sum::<f64>() * width / 3.0
}

#[test]
fn equal_runs_do_not_differ_and_unequal_ones_do() {
    let same = distribution(vec![0.0; 50], 1000, 1);
    assert_eq!((same.interval(0.95).unwrap(), same.p_value()), ([0.0, 0.0], 1.0));
    let better = distribution(vec![0.25; 50], 999, 1);
    assert_eq!((better.interval(0.9).unwrap(), better.p_value()), ([0.25, 0.25], 0.002));
    // Five samples: the middle 60 % lie between the second and the fourth.
    let five = BootstrapDistribution::new(vec![5.0, -1.0, 1.0, 2.0, 4.0]).unwrap();
    let [low, high] = five.interval(0.5).unwrap();
    assert_eq!((low, high), (1.0, 4.0));
    assert_eq!(five.p_value(), 2.0 * 2.0 / 6.0);
    assert_eq!(five.sorted(), [-1.0, 1.0, 2.0, 4.0, 5.0]);
    // The same seed, the same samples; metrics share them.
    let two = Differences::new(vec![1.0, 10.0, 2.0, 20.0, 4.0, 40.0], 2).unwrap();
    assert_eq!(two.users(), 3);
    for sample in 0..20 {
        let means = two.resample(7, sample);
        assert!((means[1] - 10.0 * means[0]).abs() < 1e-12, "{means:?}");
        assert_eq!(means, two.resample(7, sample));
    }
    assert_ne!(distribution(bernoulli(90, 5, 50), 9, 1), distribution(bernoulli(90, 5, 50), 9, 2));
}

#[test]
fn what_has_no_distribution_is_refused() {
    for (values, metrics, says) in [
        (vec![], 1, "neither of them 0"),
        (vec![1.0], 0, "neither of them 0"),
        (vec![1.0, 2.0, 3.0], 2, "users times 2 metrics"),
        (vec![0.0, 0.0, f64::NAN, 0.0], 2, "NaN of user 1"),
        (vec![f64::INFINITY], 1, "inf of user 0"),
    ] {
        let error = Differences::new(values, metrics).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(BootstrapDistribution::new(vec![]).is_err());
    assert!(BootstrapDistribution::new(vec![1.0, f64::NAN]).is_err());
    let one = BootstrapDistribution::new(vec![1.0]).unwrap();
    for confidence in [0.0, 1.0, 95.0, -0.5, f64::NAN] {
        let error = one.interval(confidence).unwrap_err().to_string();
        assert!(error.contains("between 0 and 1"), "{error}");
    }
}
