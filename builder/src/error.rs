//! Why a build made nothing, as the API says it.

use std::{error::Error as _, fmt::Write as _, io};

use gilliam_model::{api::ApiError, code::Code, cron::CronsError, queue::JobTermsError};

use crate::{
    archive::ArchiveError, component::ComponentError, detect::DetectError, import::ImportError,
    layout::LayoutError, manifest::ManifestError, packs::PackError, prebuilt::PrebuiltError,
    procfile::ProcfileError, sandbox::SandboxError,
};

/// Why a build made nothing.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The archive was refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The Procfile was refused.
    #[error(transparent)]
    Procfile(#[from] ProcfileError),
    /// `gilliam.toml` was refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A process that nothing here can build.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// A component that is not in the project.
    #[error(transparent)]
    Prebuilt(#[from] PrebuiltError),
    /// Sources that did not become a component.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A component that cannot be run.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// Terms of jobs that cannot be kept.
    #[error(transparent)]
    Jobs(#[from] JobTermsError),
    /// Crons that do not go with the processes.
    #[error(transparent)]
    Crons(#[from] CronsError),
    /// An image from elsewhere that is not taken.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The image could not be stored.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The builder's own folders failed it.
    #[error("cannot {action}")]
    Scratch {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    /// The code of the catalogue.
    pub fn code(&self) -> Code {
        match self {
            BuildError::Archive(error) => match error {
                ArchiveError::TooMany { .. } | ArchiveError::TooLarge { .. } => Code::B10,
                ArchiveError::Read(_) | ArchiveError::Write { .. } => Code::A500,
                _ => Code::B14,
            },
            BuildError::Procfile(ProcfileError::TooLong { .. } | ProcfileError::TooMany { .. })
            | BuildError::Manifest(ManifestError::TooLong { .. })
            | BuildError::Prebuilt(PrebuiltError::TooLarge { .. }) => Code::B10,
            BuildError::Component(error) => error.fault.code(),
            BuildError::Import(error) => error.code(),
            BuildError::Prebuilt(PrebuiltError::Text { .. }) => Code::B12,
            BuildError::Pack(error) => match error {
                PackError::Sandbox(SandboxError::Stopped(_)) => Code::B10,
                PackError::Sandbox(SandboxError::Unavailable(_)) => Code::B13,
                PackError::Sandbox(SandboxError::Io(_)) | PackError::Broken { .. } => Code::A500,
                PackError::Project { .. }
                | PackError::Arguments { .. }
                | PackError::Failed { .. }
                | PackError::NotReady { .. }
                | PackError::Nothing { .. } => Code::B15,
            },
            BuildError::Prebuilt(PrebuiltError::Read { .. })
            | BuildError::Layout(_)
            | BuildError::Scratch { .. } => Code::A500,
            BuildError::Procfile(_)
            | BuildError::Manifest(_)
            | BuildError::Detect(_)
            | BuildError::Jobs(_)
            | BuildError::Crons(_)
            | BuildError::Prebuilt(_) => Code::A422,
        }
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::Archive(error) => error.hint().map(str::to_string),
            BuildError::Procfile(error) => error.hint(),
            BuildError::Manifest(error) => error.hint(),
            BuildError::Detect(error) => error.hint(),
            BuildError::Prebuilt(error) => error.hint(),
            BuildError::Component(error) => error.fault.hint(),
            BuildError::Jobs(error) => Some(error.hint().to_string()),
            BuildError::Crons(error) => Some(error.hint()),
            BuildError::Import(error) => error.hint(),
            BuildError::Pack(error) => error.hint(),
            BuildError::Layout(_) | BuildError::Scratch { .. } => None,
        }
    }
}

impl From<&BuildError> for ApiError {
    fn from(error: &BuildError) -> Self {
        let mut message = error.to_string();
        // A component's fault is part of its message; the platform's own failures keep their causes.
        if error.code() == Code::A500 {
            let mut cause = error.source();
            while let Some(next) = cause {
                write!(message, ": {next}").expect("writing to a String cannot fail");
                cause = next.source();
            }
        }
        ApiError {
            code: error.code(),
            message,
            hint: error.hint(),
        }
    }
}
