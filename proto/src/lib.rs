//! The public contract as Rust types: gRPC services and the events on the topics.
//!
//! The sources are the `.proto` files beside this crate; [`DESCRIPTORS`] is what gRPC reflection and whoever decodes
//! records read. A record's `ce_type` header is the [`prost::Name::full_name`] of its message.

/// The serialized `google.protobuf.FileDescriptorSet` of every file of the contract, with its imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `orderly.money.v1`: amounts.
pub mod money {
    #[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("orderly.money.v1");
    }
}

/// `orderly.order.v1`: orders and what happens to them.
pub mod order {
    #[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("orderly.order.v1");
    }
}

/// `orderly.billing.v1`: payments, their requests and results.
pub mod billing {
    #[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("orderly.billing.v1");
    }
}

/// `orderly.inventory.v1`: the catalogue, stock, and what is reserved of it.
pub mod inventory {
    #[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("orderly.inventory.v1");
    }
}

/// `orderly.notification.v1`: what customers are told, and how.
pub mod notification {
    #[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("orderly.notification.v1");
    }
}
