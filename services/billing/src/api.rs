//! gRPC: payments as callers see them.

use std::sync::Arc;

use proto::billing::v1::{
    self as wire, GetPaymentRequest, GetPaymentResponse, ListPaymentsRequest, ListPaymentsResponse,
    PaymentFailure, PaymentStatus, billing_service_server::BillingService,
};
use service::{page, status::Violations};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    app::{Payments, failure_to_proto, to_proto},
    domain::{self, Payment},
};

/// The service's gRPC surface.
#[derive(Clone, Debug)]
pub struct Api(pub Arc<Payments>);

#[tonic::async_trait]
impl BillingService for Api {
    async fn get_payment(
        &self,
        request: Request<GetPaymentRequest>,
    ) -> Result<Response<GetPaymentResponse>, Status> {
        let mut violations = Violations::default();
        let payment_id = uuid(&mut violations, "payment_id", &request.get_ref().payment_id);
        violations.into_result()?;
        let payment = self.0.payment(payment_id).await?;
        Ok(Response::new(GetPaymentResponse { payment: Some(show(payment)) }))
    }

    async fn list_payments(
        &self,
        request: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        let ListPaymentsRequest { order_id, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        let order_id = (!order_id.is_empty()).then(|| uuid(&mut violations, "order_id", &order_id));
        let size = page::size(&mut violations, page_size);
        let before = page::after(&mut violations, &page_token, &order_id);
        violations.into_result()?;
        let mut payments = self.0.payments(order_id, before, size + 1).await?;
        let next_page_token = page::cut(&mut payments, size, &order_id, |payment| payment.payment_id);
        Ok(Response::new(ListPaymentsResponse {
            payments: payments.into_iter().map(show).collect(),
            next_page_token,
        }))
    }
}

/// The id in a field, or a violation that names it.
fn uuid(violations: &mut Violations, field: &str, text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| {
        violations.add(field, "must be a UUID");
        Uuid::nil()
    })
}

fn show(payment: Payment) -> wire::Payment {
    wire::Payment {
        payment_id: payment.payment_id.to_string(),
        order_id: payment.order_id.to_string(),
        customer_id: payment.customer_id,
        amount: Some(to_proto(&payment.amount)),
        status: status(payment.status).into(),
        failure: payment.failure.map_or(PaymentFailure::Unspecified, failure_to_proto).into(),
        attempts: payment.attempts,
        provider_reference: payment.provider_reference.unwrap_or_default(),
        create_time: Some(timestamp(payment.created_at)),
        update_time: Some(timestamp(payment.updated_at)),
    }
}

fn status(status: domain::Status) -> PaymentStatus {
    match status {
        domain::Status::Pending => PaymentStatus::Pending,
        domain::Status::Succeeded => PaymentStatus::Succeeded,
        domain::Status::Failed => PaymentStatus::Failed,
        domain::Status::Refunding => PaymentStatus::Refunding,
        domain::Status::Refunded => PaymentStatus::Refunded,
    }
}

fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    // Below 1,000,000,000 by its definition.
    prost_types::Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond() as i32 }
}
