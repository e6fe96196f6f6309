//! What `up` prints when the platform is ready.

use crate::platform::{DataDir, Endpoints, Observe};

pub(super) fn render(endpoints: &Endpoints, data_dir: &DataDir) -> String {
    let Endpoints { order, inventory, billing, notification, .. } = endpoints;
    let Endpoints { exporter, observe, .. } = endpoints;
    let Endpoints { order_admin, inventory_admin, billing_admin, notification_admin, .. } = endpoints;
    format!(
        r#"
  order           grpc {order}   admin http://{order_admin}
  inventory       grpc {inventory}   admin http://{inventory_admin}
  billing         grpc {billing}   admin http://{billing_admin}
  notification    grpc {notification}   admin http://{notification_admin}
  outbox-relay                           admin http://{relay}
  exporter                               admin http://{exporter}
  PostgreSQL      {postgres}
  Kafka           {kafka}
  provider, mail  http://{provider}, smtp {mail} (simulated)
{observed}  logs            {logs}

place an order:
  grpcurl -plaintext -d '{{"customer_id":"cust-1","items":[{{"product_id":"gaming-mouse","quantity":1,"unit_price":{{"currency":"EUR","minor":4999}}}}],"payment_token":"tok_ok"}}' {order} orderly.order.v1.OrderService/CreateOrder
"#,
        relay = endpoints.relay_admin,
        postgres = endpoints.postgres,
        kafka = endpoints.kafka,
        provider = endpoints.provider,
        mail = endpoints.mail,
        observed = observe.as_ref().map(observed).unwrap_or_default(),
        logs = data_dir.path().join("logs").display(),
    )
}

fn observed(observe: &Observe) -> String {
    let kafka = match observe.kafka {
        Some(_) => "",
        None => " (without the broker's own metrics: that Kafka runs elsewhere)",
    };
    let grafana = match observe.grafana {
        Some(address) => format!("http://{address}"),
        None => "not installed; import grafana/dashboards into one of yours, or name it with --grafana-home"
            .to_owned(),
    };
    format!("  Prometheus      http://{}{kafka}\n  Grafana         {grafana}\n", observe.prometheus)
}
