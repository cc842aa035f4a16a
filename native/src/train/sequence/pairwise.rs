//! BPR's loss (Rendle et al. 2009, section 4): each item of a history beside one that the user never
//! met.

use std::collections::HashSet;

use burn::tensor::Tensor;
use tributary_core::Result;
use tributary_core::backend::Backend;
use tributary_core::models::bpr::Bpr;
use tributary_core::random::Random;
use tributary_core::recommend::ItemIndex;

use crate::burn_backend::Burn;

/// -ln sigmoid(x_ui - x_uj) of each row of `users` (rows, hidden_size): (rows, 1).
pub(super) fn losses(
    b: &Burn,
    model: &Bpr<Burn>,
    users: &Tensor<2>,
    met: &[u32],
    others: &[u32],
) -> Result<Tensor<2>> {
    let scores = |items: &[u32]| -> Result<Tensor<2>> {
        let (factors, bias) = model.item(b, items)?;
        Ok((users.clone() * factors).sum_dim(1) + bias)
    };
    let pairs = b.concat(&[&scores(met)?, &scores(others)?])?;
    // -ln softmax of the first of two is -ln sigmoid of their difference.
    b.cross_entropy(&pairs, &vec![0; met.len()])
}

/// `count` items that are not among the `met`, uniformly; any where nothing else is left.
pub(super) fn others(
    random: &mut Random,
    met: &[ItemIndex],
    num_items: usize,
    count: usize,
) -> Vec<ItemIndex> {
    let met: HashSet<ItemIndex> = met.iter().copied().collect();
    let mut draw = || loop {
        let item = random.below(num_items as u64) as ItemIndex;
        if !met.contains(&item) || met.len() >= num_items {
            return item;
        }
    };
    (0..count).map(|_| draw()).collect()
}
