//! Compiles the .proto files without an installed protoc and keeps their descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 9] = [
    "orderly/billing/v1/billing_service.proto",
    "orderly/billing/v1/events.proto",
    "orderly/inventory/v1/events.proto",
    "orderly/inventory/v1/inventory_service.proto",
    "orderly/money/v1/money.proto",
    "orderly/notification/v1/events.proto",
    "orderly/notification/v1/notification_service.proto",
    "orderly/order/v1/events.proto",
    "orderly/order/v1/order_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=orderly");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
