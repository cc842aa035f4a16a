//! One error type for the whole library: every message names what was looked at, what was expected
//! and what was found.
//!
//! A caller's mistake, a bad file and a lost device are all `Err`, never a panic: in a browser a
//! panic takes the page's module down.

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes that must fit do not.
    #[error("{operation}: `{argument}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The operation that was called.
        operation: &'static str,
        /// Its argument.
        argument: &'static str,
        /// Axes that would fit.
        expected: Vec<usize>,
        /// Axes as given.
        found: Vec<usize>,
    },
    /// A value outside what an operation or a request accepts.
    #[error("{operation}: `{argument}` is {found}, expected {expected}")]
    Argument {
        /// The operation that was called.
        operation: &'static str,
        /// Its argument.
        argument: &'static str,
        /// What would be accepted.
        expected: String,
        /// The value as given.
        found: String,
    },
    /// A file that is not what it should be.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    File {
        /// File name, without its folder.
        file: String,
        /// Tensor, key, line or byte range concerned.
        field: String,
        /// What a good file would hold there.
        expected: String,
        /// What this one holds.
        found: String,
    },
    /// A tensor the model needs and no file holds.
    #[error("{file}: no tensor `{name}`{hint}")]
    MissingTensor {
        /// File or folder searched.
        file: String,
        /// Full name of the tensor.
        name: String,
        /// Empty, or a near name that does exist.
        hint: String,
    },
    /// A documented limit was passed; checked before anything is allocated.
    #[error("{what}: {found} is over the limit of {limit}")]
    Limit {
        /// What is limited, with the file's or argument's name.
        what: String,
        /// The limit.
        limit: u64,
        /// The value found.
        found: u64,
    },
    /// Something this version does not know; refused rather than guessed.
    #[error("{file}: {field}: `{found}` is not supported; supported: {supported}")]
    Unsupported {
        /// File name.
        file: String,
        /// Key or feature.
        field: String,
        /// The value found.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// A file that is not the one its bundle was made with.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Integrity {
        /// File name.
        file: String,
        /// `bytes` or `sha256`.
        field: String,
        /// What the manifest says.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A LoRA adapter that does not fit or is not understood.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Adapter {
        /// File name.
        file: String,
        /// Key or tensor.
        field: String,
        /// What would be accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// More tokens than the model's context or the run's cache holds.
    #[error("{what}: {found} tokens do not fit, the limit is {limit}")]
    InputTooLong {
        /// What was too long.
        what: &'static str,
        /// Most tokens that fit.
        limit: usize,
        /// Tokens given.
        found: usize,
    },
    /// There is no GPU adapter that may be used.
    #[error("no usable GPU adapter: {0}")]
    NoAdapter(String),
    /// The GPU device is gone; everything stored on it is lost.
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),
    /// An allocation was refused.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The GPU reported an error of validation: a defect of ours, never of the caller's.
    #[error("GPU error: {0}")]
    Gpu(String),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// Path as the caller gave it.
        path: String,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A broken promise of our own.
    #[error("internal error: {0}")]
    Internal(String),
    /// Where it happened, around what happened.
    #[error("{place}: {source}")]
    At {
        /// Layer, file or stage.
        place: String,
        /// What happened there.
        source: Box<Error>,
    },
}

/// Stable codes, the same in Rust, TypeScript and C. [`ErrorKind::code`] gives the TypeScript name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `WEBGPU_UNAVAILABLE`
    WebgpuUnavailable,
    /// `LIMIT_EXCEEDED`
    LimitExceeded,
    /// `OUT_OF_MEMORY`
    OutOfMemory,
    /// `DEVICE_LOST`
    DeviceLost,
    /// `MODEL_NOT_FOUND`
    ModelNotFound,
    /// `INTEGRITY`
    Integrity,
    /// `MODEL_INVALID`
    ModelInvalid,
    /// `UNSUPPORTED_MODEL`
    UnsupportedModel,
    /// `ADAPTER_INVALID`
    AdapterInvalid,
    /// `INVALID_ARGUMENT`
    InvalidArgument,
    /// `INPUT_TOO_LONG`
    InputTooLong,
    /// `INTERNAL`
    Internal,
}

impl ErrorKind {
    /// The code as TypeScript and C callers see it.
    pub fn code(self) -> &'static str {
        match self {
            Self::WebgpuUnavailable => "WEBGPU_UNAVAILABLE",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::DeviceLost => "DEVICE_LOST",
            Self::ModelNotFound => "MODEL_NOT_FOUND",
            Self::Integrity => "INTEGRITY",
            Self::ModelInvalid => "MODEL_INVALID",
            Self::UnsupportedModel => "UNSUPPORTED_MODEL",
            Self::AdapterInvalid => "ADAPTER_INVALID",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::InputTooLong => "INPUT_TOO_LONG",
            Self::Internal => "INTERNAL",
        }
    }
}

impl Error {
    /// The stable code of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Shape { .. } | Self::Argument { .. } => ErrorKind::InvalidArgument,
            Self::File { .. } | Self::MissingTensor { .. } => ErrorKind::ModelInvalid,
            Self::Integrity { .. } => ErrorKind::Integrity,
            Self::Limit { .. } => ErrorKind::LimitExceeded,
            Self::Unsupported { .. } => ErrorKind::UnsupportedModel,
            Self::Adapter { .. } => ErrorKind::AdapterInvalid,
            Self::InputTooLong { .. } => ErrorKind::InputTooLong,
            Self::NoAdapter(_) => ErrorKind::WebgpuUnavailable,
            Self::DeviceLost(_) => ErrorKind::DeviceLost,
            Self::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Self::Io { .. } => ErrorKind::ModelNotFound,
            Self::Gpu(_) | Self::Internal(_) => ErrorKind::Internal,
            Self::At { source, .. } => source.kind(),
        }
    }

    /// The file or operation, and its field or argument, that the error is about.
    pub fn place(&self) -> Option<(&str, &str)> {
        match self {
            Self::Shape { operation, argument, .. }
            | Self::Argument { operation, argument, .. } => Some((operation, argument)),
            Self::File { file, field, .. }
            | Self::Integrity { file, field, .. }
            | Self::Unsupported { file, field, .. }
            | Self::Adapter { file, field, .. } => Some((file, field)),
            Self::MissingTensor { file, name, .. } => Some((file, name)),
            Self::At { source, .. } => source.place(),
            _ => None,
        }
    }

    /// Two shapes that must fit do not.
    pub fn shape(
        operation: &'static str,
        argument: &'static str,
        expected: &[usize],
        found: &[usize],
    ) -> Self {
        Self::Shape { operation, argument, expected: expected.to_vec(), found: found.to_vec() }
    }

    /// A value outside what `operation` accepts.
    pub fn argument(
        operation: &'static str,
        argument: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        let (expected, found) = (expected.to_string(), quoted(found));
        Self::Argument { operation, argument, expected, found }
    }

    /// A file that does not hold what it should.
    pub fn file(
        file: impl ToString,
        field: impl ToString,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::File {
            file: file.to_string(),
            field: quoted(field),
            expected: expected.to_string(),
            found: quoted(found),
        }
    }

    /// The system refused to open, read or write `path`.
    pub fn io(path: impl ToString, source: std::io::Error) -> Self {
        Self::Io { path: path.to_string(), source }
    }
}

/// What a caller or a file said, for a message: a name of a megabyte does not belong there.
fn quoted(text: impl ToString) -> String {
    const MAX_CHARS: usize = 300;
    let mut text = text.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Adds the place to an error on its way up.
pub trait Context<T> {
    /// `place` is evaluated only for errors.
    fn at<P: Into<String>>(self, place: impl FnOnce() -> P) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn at<P: Into<String>>(self, place: impl FnOnce() -> P) -> Result<T> {
        self.map_err(|source| Error::At { place: place().into(), source: Box::new(source) })
    }
}
