//! Why a blob service did not do what it was asked.

use super::limits;

/// What was not done: nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A name that no object can have.
    #[error(
        "an object's name has 1 to {} bytes and no control characters",
        limits::NAME_BYTES_MAX
    )]
    Name,
    /// A content type that is too long.
    #[error("the content type has more than {} bytes", limits::TYPE_BYTES_MAX)]
    Type,
    /// It would hold more than it may.
    #[error("the service has reached its quota of {0} bytes")]
    Quota(u64),
    /// It holds as many objects as it may.
    #[error("the service has {} objects, and may have no more", limits::OBJECTS_MAX)]
    Objects,
    /// Whoever sent it broke off or was silent.
    #[error("the object did not come whole: {0}")]
    Broken(String),
    /// The service was destroyed.
    #[error("the service was destroyed")]
    Gone,
    /// The disk, or what is on it.
    #[error("the service cannot be used: {0}")]
    Failed(String),
}

impl BlobError {
    /// The way out, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            BlobError::Quota(_) => Some("delete objects, or raise quota under [services] in gilliam.toml"),
            BlobError::Objects => Some("delete objects, or put several things into one"),
            _ => None,
        }
    }
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        BlobError::Failed(error.to_string())
    }
}

macro_rules! failed {
    ($($error:ty)*) => {
        $(impl From<$error> for BlobError {
            fn from(error: $error) -> Self {
                BlobError::Failed(error.to_string())
            }
        })*
    };
}
failed!(redb::DatabaseError redb::TransactionError redb::TableError redb::StorageError redb::CommitError);
