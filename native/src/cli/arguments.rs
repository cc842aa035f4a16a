//! The command line's words. Doc comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::clip_score::ClipScoreArguments;
use super::summarize::SummarizeArguments;
use crate::device::Device;
use crate::encoder::Modality;

/// Multimodal recommendation on your own device.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, about)]
pub struct Cli {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
    /// Where to run it: `auto` is the real GPU or the CPU; `gpu:software` also accepts a software
    /// adapter; `burn` is the training backend.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub device: Device,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr; twice for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Recommend to a user of the embedded demo shop.
    Demo(DemoArguments),
    /// Rank a catalogue, or candidates, for a history.
    Recommend(RecommendArguments),
    /// Measure a recommender on users it has to predict.
    Evaluate(EvaluateArguments),
    /// Train what a configuration describes.
    #[cfg(feature = "train")]
    Train(TrainArguments),
    /// Run the stages of a file, leaving out what is done already.
    Pipeline(PipelineArguments),
    /// Write a data set in the project's form.
    Prepare(PrepareArguments),
    /// Store a model's matrices in fewer bits.
    Quantize(QuantizeArguments),
    /// Fold a LoRA adapter into a model's weights.
    Merge(MergeArguments),
    /// Encode pictures or texts as vectors.
    Embed(EmbedArguments),
    /// Say in words what pictures show.
    Caption(CaptionArguments),
    /// Measure whether texts say what their pictures show, by a CLIP.
    ClipScore(ClipScoreArguments),
    /// Write what MLLM-SRec's chain says of items and users into its bundle.
    Summarize(SummarizeArguments),
    /// Continue a text.
    Generate(GenerateArguments),
    /// Logits of the last position.
    Logits(LogitsArguments),
    /// How likely each label is behind a prompt.
    Score(ScoreArguments),
    /// What a model, a bundle or a safetensors file holds.
    Inspect(InspectArguments),
    /// The devices of this machine.
    Devices,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// Which of the demo's shoppers, from 0.
    #[arg(long, default_value_t = 0)]
    pub user: usize,
    /// Items to recommend.
    #[arg(long, default_value_t = 10)]
    pub k: usize,
}

/// Arguments of `recommend`.
#[derive(Args, Debug)]
pub struct RecommendArguments {
    /// A bundle's folder, or `demo`.
    #[arg(long)]
    pub bundle: PathBuf,
    /// Oldest first: `id:view,id:cart,...`; the behaviour may be left out.
    #[arg(long, default_value = "")]
    pub history: String,
    /// Rank only these: `id,id,...`
    #[arg(long)]
    pub candidates: Option<String>,
    /// Items to recommend.
    #[arg(long, default_value_t = 10)]
    pub k: usize,
    /// Items of the history may be recommended again.
    #[arg(long)]
    pub include_seen: bool,
    /// Never these: `id,id,...`
    #[arg(long, default_value = "")]
    pub exclude: String,
    /// The behaviour to predict, such as `buy`; the model's own without it.
    #[arg(long)]
    pub target_behaviour: Option<String>,
    /// Answer as if nobody knew these: `image,text,graph`.
    #[arg(long, default_value = "")]
    pub hide: String,
    /// What the first three items owe to the history and to each modality.
    #[arg(long)]
    pub explain: bool,
    /// Answer these instead: a file with one request in JSON per line. An answer that fails is an error
    /// in its place.
    #[arg(long, conflicts_with_all = ["history", "candidates", "explain"])]
    pub requests: Option<PathBuf>,
}

/// Which users' last or second last item is to be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// The last item.
    Test,
    /// The second last.
    Valid,
}

/// Arguments of `evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArguments {
    /// A bundle's folder, or `demo`.
    #[arg(
        long,
        required_unless_present_any = ["model", "baselines", "compare"],
        conflicts_with = "model"
    )]
    pub bundle: Option<PathBuf>,
    /// A model's folder: `config.json` and weights.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Interactions: RecBole .inter, CSV or TSV with a header, `user item item ...` lines, JSON
    /// lines, or a folder that `prepare` wrote.
    #[arg(long, required_unless_present = "compare")]
    pub data: Option<PathBuf>,
    /// Which items to predict.
    #[arg(long, value_enum, default_value = "test")]
    pub split: SplitName,
    /// Predict the last item that the user did this to (`buy`), from what came before the first
    /// event that touches it; competitors are items the user never touches.
    #[arg(long)]
    pub target_behaviour: Option<String>,
    /// `all` items; a number: the target among that many; or a file of stored sets.
    #[arg(long, default_value = "all")]
    pub candidates: String,
    /// Store the drawn candidates in this file, JSON lines.
    #[arg(long)]
    pub save_candidates: Option<PathBuf>,
    /// With a number of candidates: the exact expectation over every draw of them.
    #[arg(long)]
    pub exact: bool,
    /// Cut-offs of the metrics.
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,20")]
    pub k: Vec<usize>,
    /// Only the first users.
    #[arg(long)]
    pub users: Option<usize>,
    /// Draws the candidates, or the bootstrap's samples.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Judge a language model by the name it writes instead of by its scores: hit_rate@1 and the
    /// share of valid answers.
    #[arg(long, value_enum, conflicts_with = "exact")]
    pub answers: Option<AnswersName>,
    /// Also ask about each user's held-out item and one that is not liked, `random` or what the user did
    /// this to (`dislike`), and measure the area under the curve of all answers.
    #[arg(long, value_name = "NEGATIVES", conflicts_with = "answers")]
    pub pairs: Option<String>,
    /// Also popularity and a first-order Markov chain on the same users; alone, without a bundle or
    /// model, only these.
    #[arg(long)]
    pub baselines: bool,
    /// Write the result into the bundle's manifest, where applications read what to expect.
    #[arg(long, requires = "bundle")]
    pub record: bool,
    /// Item embeddings for intra_list_diversity, safetensors with a row per item of the recommender's
    /// catalogue, as `embed --catalogue` writes them; without it the bundle's text, image or graph
    /// table, the first there is.
    #[arg(long, value_name = "FILE")]
    pub diversity_table: Option<PathBuf>,
    /// Save each user's target, its rank and the best items in this file, Parquet; of the baselines
    /// alone, popularity's.
    #[arg(long, value_name = "RUN.parquet")]
    pub save: Option<PathBuf>,
    /// Compare two saved runs user by user: differences A - B with bootstrap intervals and p-values.
    #[arg(
        long,
        num_args = 2,
        value_names = ["RUN_A", "RUN_B"],
        conflicts_with_all = [
            "bundle", "model", "data", "target_behaviour", "save_candidates", "exact", "users",
            "answers", "pairs", "baselines", "record", "diversity_table", "save",
        ]
    )]
    pub compare: Option<Vec<PathBuf>>,
    /// With --compare: `hit_rate@10,auc` and so on; otherwise hit_rate, ndcg and mrr at each of --k,
    /// and auc.
    #[arg(long, value_delimiter = ',', conflicts_with = "data")]
    pub metric: Vec<String>,
    /// With --compare: bootstrap samples.
    #[arg(long, default_value_t = 10_000, conflicts_with = "data")]
    pub samples: usize,
    /// With --compare: share of the samples that an interval holds.
    #[arg(long, default_value_t = 0.95, conflicts_with = "data")]
    pub confidence: f64,
    /// With --compare: draw the distributions of the differences into this file, SVG.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "data")]
    pub plot: Option<PathBuf>,
}

/// How a language model writes its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnswersName {
    /// Anything can be written; an answer is valid when it is the name of one candidate.
    Free,
    /// Only candidates' names can be written.
    Constrained,
}

/// Arguments of `train`.
#[cfg(feature = "train")]
#[derive(Args, Debug)]
pub struct TrainArguments {
    /// The configuration, TOML.
    pub config: PathBuf,
    /// Another value for a key, as often as wanted: `--set training.seed=2`; without a value the key
    /// is left out.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Continue the run in the output folder exactly where it stopped.
    #[arg(long)]
    pub resume: bool,
    /// Where weights, checkpoints and the curve go.
    #[arg(long, default_value = "out")]
    pub out: PathBuf,
}

/// Arguments of `pipeline`.
#[derive(Args, Debug)]
pub struct PipelineArguments {
    /// The stages, TOML: `record`, and for each `[[stage]]` its `name`, `command`, `reads`, `writes`.
    pub file: PathBuf,
}

/// What can be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The synthetic shop.
    Shop,
    /// What the synthetic shop does not sell: pictures and texts that an encoder may learn from.
    Unsold,
    /// MovieLens as downloaded: `ratings.csv`, `movies.csv`, maybe `posters/<movieId>.jpg`.
    Movielens,
    /// RecBole atomic files: `.inter`, maybe `.item` and `images/`.
    Recbole,
}

/// Arguments of `prepare`.
#[derive(Args, Debug)]
pub struct PrepareArguments {
    /// The data set.
    #[arg(value_enum)]
    pub source: Source,
    /// The source's folder; not for the shop and what it does not sell.
    pub path: Option<PathBuf>,
    /// Folder to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Leave out users and items with fewer interactions: 5 for MovieLens, else 1.
    #[arg(long)]
    pub min_interactions: Option<usize>,
    /// Users of the synthetic shop: 2000 unless said.
    #[arg(long)]
    pub users: Option<usize>,
    /// Which users, 1 unless said: the catalogue and their rules of taste stay the same.
    #[arg(long)]
    pub users_seed: Option<u64>,
}

/// Arguments of `quantize`.
#[derive(Args, Debug)]
pub struct QuantizeArguments {
    /// A model's folder.
    pub model: PathBuf,
    /// `q8`, `q4` or `f16`.
    #[arg(long, default_value = "q8")]
    pub format: String,
    /// Folder to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Folder of the CLIP that embedded the catalogue: the bundle takes it along, so that items can come
    /// at run time.
    #[arg(long)]
    pub encoder: Option<PathBuf>,
}

/// Arguments of `merge`.
#[derive(Args, Debug)]
pub struct MergeArguments {
    /// The base model's folder.
    pub model: PathBuf,
    /// The adapter's folder.
    #[arg(long)]
    pub adapter: PathBuf,
    /// Folder to write.
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `embed`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct EmbedArguments {
    /// A folder of CLIP, ViT or a BERT sentence encoder.
    #[arg(long)]
    pub model: PathBuf,
    /// A picture: PNG, JPEG or WebP.
    #[arg(long, group = "input")]
    pub image: Option<PathBuf>,
    /// A text.
    #[arg(long, group = "input")]
    pub text: Option<String>,
    /// Tokens, special ones included.
    #[arg(long, group = "input", value_delimiter = ',')]
    pub ids: Option<Vec<u32>>,
    /// A JSON list of 3 * height * width normalised values.
    #[arg(long, group = "input")]
    pub pixel_values: Option<PathBuf>,
    /// A prepared folder, all items of it.
    #[arg(long, group = "input", requires = "modality", requires = "out")]
    pub catalogue: Option<PathBuf>,
    /// A folder of pictures, all files of it by name.
    #[arg(long, group = "input", requires = "out")]
    pub images: Option<PathBuf>,
    /// What of a catalogue's items.
    #[arg(long, value_enum)]
    pub modality: Option<Modality>,
    /// The table to write; an interrupted run goes on where it stopped.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Scale the vector to length 1.
    #[arg(long)]
    pub normalize: bool,
}

/// Arguments of `caption`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("pictures").required(true))]
pub struct CaptionArguments {
    /// A folder of LLaVA-1.5 or Qwen2-VL; or `colours`: which colours there are where, by measuring.
    #[arg(long)]
    pub model: PathBuf,
    /// A picture: PNG, JPEG or WebP.
    #[arg(long, group = "pictures")]
    pub image: Option<PathBuf>,
    /// A prepared folder, all items of it; or a folder of pictures, all files of it by name.
    #[arg(long, group = "pictures")]
    pub data: Option<PathBuf>,
    /// What is asked. A text with the model's own picture token is the whole prompt.
    #[arg(long, default_value = "Describe this picture in one sentence.")]
    pub prompt: String,
    /// The captions of a folder, JSON lines; an interrupted run goes on where it stopped.
    #[arg(long, default_value = "captions.jsonl")]
    pub out: PathBuf,
    /// Most tokens of a caption.
    #[arg(long, default_value_t = 64)]
    pub max_new_tokens: usize,
    /// Most tokens of a picture, for a model that takes pictures at their own size.
    #[arg(long)]
    pub max_picture_tokens: Option<usize>,
    /// 0 takes the likeliest token; above it, draws.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Equal seeds draw equally.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Which model answers.
#[derive(Args, Debug)]
pub struct ModelArguments {
    /// A language model's folder.
    #[arg(long)]
    pub model: PathBuf,
    /// A PEFT adapter's folder, applied unmerged.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
}

/// Arguments of `generate`.
#[derive(Args, Debug)]
pub struct GenerateArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArguments,
    /// The text to continue.
    #[arg(long, required_unless_present = "ids")]
    pub prompt: Option<String>,
    /// The tokens to continue, instead of a text.
    #[arg(long, value_delimiter = ',', conflicts_with = "prompt")]
    pub ids: Option<Vec<u32>>,
    /// Most new tokens.
    #[arg(long, default_value_t = 64)]
    pub max_tokens: usize,
    /// 0 takes the likeliest token; above it, draws.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Draw from the k likeliest; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Draw from the fewest that reach this probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Equal seeds draw equally.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// End the answer at this text; may be given several times.
    #[arg(long)]
    pub stop: Vec<String>,
    /// Do not stop at the model's end tokens.
    #[arg(long)]
    pub ignore_eos: bool,
}

/// Arguments of `logits`.
#[derive(Args, Debug)]
pub struct LogitsArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArguments,
    /// The tokens.
    #[arg(long, value_delimiter = ',', required = true)]
    pub ids: Vec<u32>,
}

/// Arguments of `score`.
#[derive(Args, Debug)]
pub struct ScoreArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArguments,
    /// What comes before.
    #[arg(long)]
    pub prompt: String,
    /// What may follow: `A,B,C`.
    #[arg(long, value_delimiter = ',', required = true)]
    pub labels: Vec<String>,
}

/// Arguments of `inspect`.
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// A model's or bundle's folder, or a safetensors file.
    pub path: PathBuf,
}
