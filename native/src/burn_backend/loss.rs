//! Cross-entropy whose gradient is written down instead of recorded. Over all items of a shop the
//! logits are the largest tensor of a step, and a recorded log-softmax walks over them a dozen
//! times.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation};

/// -log softmax(logits)[target] per row: (rows, cols) -> (rows, 1), rows > 0.
pub(super) fn cross_entropy(logits: &Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
    let [rows, cols] = logits.dims();
    let targets = targets.reshape([rows, 1]);
    let values = logits.clone().inner();
    let probabilities = activation::softmax(values.clone(), 1);
    // The largest probability is 1 / sum(exp(x - max)), so log(sum(exp)) costs no second exp.
    let log_sum = values.clone().max_dim(1) - probabilities.clone().max_dim(1).log();
    let loss = log_sum - values.gather(1, targets.clone());
    if !logits.is_tracked() {
        return loss;
    }
    // d loss / d logits = softmax - one_hot(target). A constant of that value times the logits, one
    // dot product per row, has this gradient; its own value is replaced by the loss.
    let minus_one = Tensor::full([rows, 1], -1.0, &loss.device());
    let slope = probabilities.scatter(1, targets, minus_one, IndexingUpdateOp::Add);
    let product = logits
        .clone()
        .reshape([rows, 1, cols])
        .matmul(slope.reshape([rows, cols, 1]))
        .reshape([rows, 1]);
    product.clone() - product.inner() + loss
}
