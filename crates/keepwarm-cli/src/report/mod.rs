//! What `keepwarm report` is made of.
//!
//! | file | what it is |
//! |---|---|
//! | `data` | what a report tells, gathered from the directory; also its JSON |
//! | `buckets` | histograms |
//! | `ranges` | the history, by the bars of a chart |
//! | `markup` | text made safe, elements, the template |
//! | `svg`, `treemap` | charts |
//! | `tables` | the same numbers for who cannot see these, and bars beside numbers |
//! | `page` | the page, whole |
//! | `page.html`, `page.css` | its frame and its looks |
//!
//! There is no script, nothing is loaded from anywhere, and everything that came from the directory
//! goes through `markup::text`.

mod buckets;
pub(crate) mod data;
mod markup;
mod page;
mod ranges;
mod svg;
mod tables;
mod treemap;

pub(crate) use page::page;
