//! Tributary for native programs: files, data sets, evaluation, bundles, training and the command
//! line.
//!
//! ```
//! use tributary::{device::Device, recommender::AnyRecommender};
//! use tributary_core::recommend::{Interaction, Request};
//!
//! let shop = AnyRecommender::open("demo".as_ref(), Device::Cpu)?;
//! let request =
//!     Request { history: vec![Interaction::new("umbrella-38")], ..Request::default() };
//! for item in shop.recommend(&request)?.items {
//!     println!("{} {} {:.3}", item.rank, item.id.as_str(), item.score);
//! }
//! # Ok::<(), tributary_core::Error>(())
//! ```

pub mod bundle;
#[cfg(feature = "train")]
pub mod burn_backend;
pub mod caption;
pub mod cli;
pub mod clip_score;
pub mod data;
pub mod device;
pub mod embedding_table;
pub mod encode;
pub mod encoder;
pub mod evaluate;
pub mod files;
pub mod language;
pub mod recommender;
pub mod shop_pictures;
pub mod summary;
pub mod threads;
#[cfg(feature = "train")]
pub mod train;
