//! The methods of `inference.GRPCInferenceService` that go through tonic: all but `ModelInfer`.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use quintet_engine::{ErrorKind, InferError, TensorSpec};
use quintet_proto::inference::{
    self as pb, grpc_inference_service_server::GrpcInferenceService, model_metadata_response::TensorMetadata,
};
use tonic::{Request, Response, Status, Streaming};

use super::{reply, repository};
use crate::{kserve, service::Service};

/// The inference service.
pub(super) struct Rpc(pub(super) Arc<Service>);

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(outcome: Result<T, InferError>) -> Answer<T> {
    outcome.map(Response::new).map_err(|error| reply::status(&error))
}

/// The answer of a method that this server does not have.
fn unsupported<T>(method: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("{method} is not supported by this server")))
}

#[tonic::async_trait]
impl GrpcInferenceService for Rpc {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Answer<pb::ServerLiveResponse> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<pb::ServerReadyRequest>) -> Answer<pb::ServerReadyResponse> {
        Ok(Response::new(pb::ServerReadyResponse { ready: self.0.is_ready() }))
    }

    /// A model that is not there is not ready, which is no error.
    async fn model_ready(&self, request: Request<pb::ModelReadyRequest>) -> Answer<pb::ModelReadyResponse> {
        let request = request.get_ref();
        let ready = match kserve::resolve(&self.0, &request.name, &request.version) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) => false,
            Err(error) => return Err(reply::status(&error)),
        };
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<pb::ServerMetadataRequest>) -> Answer<pb::ServerMetadataResponse> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: crate::SERVER_NAME.into(),
            version: crate::VERSION.into(),
            extensions: kserve::EXTENSIONS.map(Into::into).to_vec(),
        }))
    }

    async fn model_metadata(&self, request: Request<pb::ModelMetadataRequest>) -> Answer<pb::ModelMetadataResponse> {
        let request = request.get_ref();
        let model = kserve::resolve(&self.0, &request.name, &request.version).map_err(|error| reply::status(&error))?;
        let spec = model.spec();
        let describe = |tensor: &TensorSpec| TensorMetadata {
            name: tensor.name.clone(),
            datatype: tensor.data_type.name().to_owned(),
            shape: tensor.announced_shape(spec.batches()),
        };
        let metadata = pb::ModelMetadataResponse {
            name: spec.name().to_owned(),
            versions: vec![spec.version().to_string()],
            platform: kserve::PLATFORM.to_owned(),
            inputs: spec.inputs().iter().map(describe).collect(),
            outputs: spec.outputs().iter().map(describe).collect(),
        };
        Ok(reply::about(metadata, model.placement()))
    }

    async fn model_config(&self, request: Request<pb::ModelConfigRequest>) -> Answer<pb::ModelConfigResponse> {
        let request = request.get_ref();
        let model = kserve::resolve(&self.0, &request.name, &request.version).map_err(|error| reply::status(&error))?;
        let config = self.0.config(&model).unwrap_or_default();
        Ok(reply::about(pb::ModelConfigResponse { config: Some(Arc::unwrap_or_clone(config)) }, model.placement()))
    }

    /// `super::infer` takes these in front of tonic.
    async fn model_infer(&self, _: Request<pb::ModelInferRequest>) -> Answer<pb::ModelInferResponse> {
        Err(Status::internal("ModelInfer was routed past its own way"))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<pb::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        _: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        Err(Status::unimplemented("ModelStreamInfer is not supported by this server: call ModelInfer for each request"))
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Answer<pb::ModelStatisticsResponse> {
        let request = request.get_ref();
        answer(kserve::statistics::read(&self.0, &request.name, &request.version))
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Answer<pb::RepositoryIndexResponse> {
        answer(repository::index(&self.0, request.into_inner()).await)
    }

    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Answer<pb::RepositoryModelLoadResponse> {
        let loaded = repository::load(&self.0, request.into_inner()).await;
        answer(loaded.map(|()| pb::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Answer<pb::RepositoryModelUnloadResponse> {
        let unloaded = repository::unload(&self.0, request.into_inner()).await;
        answer(unloaded.map(|()| pb::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<pb::SystemSharedMemoryStatusRequest>,
    ) -> Answer<pb::SystemSharedMemoryStatusResponse> {
        unsupported("SystemSharedMemoryStatus")
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<pb::SystemSharedMemoryRegisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryRegisterResponse> {
        unsupported("SystemSharedMemoryRegister")
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<pb::SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryUnregisterResponse> {
        unsupported("SystemSharedMemoryUnregister")
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<pb::CudaSharedMemoryStatusRequest>,
    ) -> Answer<pb::CudaSharedMemoryStatusResponse> {
        unsupported("CudaSharedMemoryStatus")
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<pb::CudaSharedMemoryRegisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryRegisterResponse> {
        unsupported("CudaSharedMemoryRegister")
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<pb::CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryUnregisterResponse> {
        unsupported("CudaSharedMemoryUnregister")
    }

    async fn trace_setting(&self, _: Request<pb::TraceSettingRequest>) -> Answer<pb::TraceSettingResponse> {
        unsupported("TraceSetting")
    }

    async fn log_settings(&self, _: Request<pb::LogSettingsRequest>) -> Answer<pb::LogSettingsResponse> {
        unsupported("LogSettings")
    }
}
