//! What the broker knows about itself and its topics: the durable store below, immutable images above.
//!
//! | module | what it holds |
//! |---|---|
//! | `store` | the `MetadataStore` trait and the embedded implementation in `metadata/` |
//! | `image` | the typed picture of the store's keys, the changes to it, and its publication to shards |
//! | `limits` | the bounds of both |
//!
//! Everything here runs on the control thread; shards only ever read an `Arc<MetadataImage>`.

pub mod image;
pub mod limits;
pub mod store;
