//! Pages of a Parquet file that nobody vouches for.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

/// Most values and nulls of one column of one row group: lists of `MAX_TOP` for every user of it.
pub(super) const MAX_LEVELS: usize = 1 << 23;

/// Pages as their reader has them, but only what cannot claim more than its bytes hold: the decoders
/// behind it allocate what a header claims, and panic on encodings that do not belong there.
pub(super) struct CheckedPages {
    pub(super) pages: Box<dyn PageReader>,
    /// Fewest bytes of one value.
    pub(super) value_bytes: usize,
    /// Values and nulls so far.
    pub(super) levels: usize,
}

impl CheckedPages {
    fn check(&mut self, page: &Page) -> Result<()> {
        let refuse = |expected: &str, found: String| {
            Err(ParquetError::General(format!("expected {expected}, found {found}")))
        };
        match page {
            Page::DictionaryPage { buf, num_values, encoding, .. } => {
                let most = buf.len() / self.value_bytes;
                if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
                    return refuse("a plain dictionary", encoding.to_string());
                }
                if *num_values as usize > most {
                    let expected = format!("a dictionary of at most {most} values");
                    return refuse(&expected, num_values.to_string());
                }
                Ok(())
            }
            Page::DataPage {
                num_values, encoding, def_level_encoding, rep_level_encoding, ..
            } => {
                let plain = matches!(
                    encoding,
                    Encoding::PLAIN | Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY
                );
                if !plain {
                    return refuse("plain or dictionary values", encoding.to_string());
                }
                for levels in [def_level_encoding, rep_level_encoding] {
                    if *levels != Encoding::RLE {
                        return refuse("levels in RLE", levels.to_string());
                    }
                }
                self.levels = self.levels.saturating_add(*num_values as usize);
                if self.levels > MAX_LEVELS {
                    let expected = format!("at most {MAX_LEVELS} values in a row group");
                    return refuse(&expected, self.levels.to_string());
                }
                Ok(())
            }
            Page::DataPageV2 { .. } => refuse("data pages of version 1", "version 2".into()),
        }
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
