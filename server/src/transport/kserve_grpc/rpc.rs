//! The methods of `inference.GRPCInferenceService` that tonic serves: all but `ModelInfer`.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use quintet_engine::{ErrorKind, InferError, TensorSpec};
use quintet_proto::{
    NOT_READY,
    inference::{
        self as pb, grpc_inference_service_server::GrpcInferenceService, model_metadata_response::TensorMetadata,
        system_shared_memory_status_response::RegionStatus,
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{charged::Received, options::Options, reply, repository, settings, stream};
use crate::{
    kserve::{
        self, message,
        shared_memory::{self, Region},
    },
    service::Service,
};

/// The inference service.
pub(super) struct Rpc {
    pub(super) service: Arc<Service>,
    pub(super) options: Options,
    pub(super) stop: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(outcome: Result<T, InferError>) -> Answer<T> {
    outcome.map(Response::new).map_err(|error| reply::status(&error))
}

/// The name in a message; `None` for the empty name, which means all.
fn named(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

#[tonic::async_trait]
impl GrpcInferenceService for Rpc {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Answer<pb::ServerLiveResponse> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<pb::ServerReadyRequest>) -> Answer<pb::ServerReadyResponse> {
        let ready = self.service.check_ready();
        let mut response = Response::new(pb::ServerReadyResponse { ready: ready.is_ok() });
        if let Some(reason) = ready.err().and_then(|error| reply::metadata_value(&message::for_client(&error))) {
            response.metadata_mut().insert(NOT_READY, reason);
        }
        Ok(response)
    }

    /// As Triton: an unknown model is not ready, which is not an error.
    async fn model_ready(&self, request: Request<pb::ModelReadyRequest>) -> Answer<pb::ModelReadyResponse> {
        let request = request.get_ref();
        let ready = match kserve::resolve(self.service.catalog(), &request.name, &request.version) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) => false,
            Err(error) => return Err(reply::status(&error)),
        };
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<pb::ServerMetadataRequest>) -> Answer<pb::ServerMetadataResponse> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: self.service.id().to_owned(),
            version: crate::VERSION.into(),
            extensions: self.service.extensions(),
        }))
    }

    async fn model_metadata(&self, request: Request<pb::ModelMetadataRequest>) -> Answer<pb::ModelMetadataResponse> {
        let request = request.get_ref();
        let model = kserve::resolve(self.service.catalog(), &request.name, &request.version)
            .map_err(|error| reply::status(&error))?;
        let spec = model.spec();
        let describe = |tensor: &TensorSpec| TensorMetadata {
            name: tensor.name.clone(),
            datatype: tensor.data_type.name().to_owned(),
            shape: tensor.announced_shape(spec.batches()),
        };
        let metadata = pb::ModelMetadataResponse {
            name: spec.name().to_owned(),
            versions: vec![spec.version().to_string()],
            platform: kserve::platform(self.service.catalog(), &model),
            inputs: spec.inputs().iter().map(describe).collect(),
            outputs: spec.outputs().iter().map(describe).collect(),
        };
        let images = kserve::describe_images(self.service.catalog(), &model);
        Ok(reply::with_images(reply::with_origin(metadata, model.placement()), images.as_deref()))
    }

    async fn model_config(&self, request: Request<pb::ModelConfigRequest>) -> Answer<pb::ModelConfigResponse> {
        let request = request.get_ref();
        let model = kserve::resolve(self.service.catalog(), &request.name, &request.version)
            .map_err(|error| reply::status(&error))?;
        let config = self.service.catalog().config(&model).unwrap_or_default();
        Ok(reply::with_placement(
            pb::ModelConfigResponse { config: Some(Arc::unwrap_or_clone(config)) },
            model.placement(),
        ))
    }

    /// Never called: [`super::infer`] handles these requests before tonic.
    async fn model_infer(&self, _: Request<pb::ModelInferRequest>) -> Answer<pb::ModelInferResponse> {
        Err(Status::internal("ModelInfer reached tonic, which does not serve it"))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<pb::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let (service, stop) = (Arc::clone(&self.service), self.stop.clone());
        let (metadata, extensions, requests) = request.into_parts();
        let received = extensions.get::<Received>().cloned();
        // A message is charged on its own once it is decoded.
        let requests = requests.inspect(move |_| received.iter().for_each(Received::release));
        let call = stream::Call { service, headers: metadata.into_headers(), guard: extensions.get().cloned() };
        let answers = stream::infer(call, requests, self.options, stop);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Answer<pb::ModelStatisticsResponse> {
        let request = request.get_ref();
        answer(kserve::statistics::read(self.service.catalog(), &request.name, &request.version))
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Answer<pb::RepositoryIndexResponse> {
        answer(repository::index(&self.service, request.into_inner()).await)
    }

    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Answer<pb::RepositoryModelLoadResponse> {
        let loaded = repository::load(&self.service, request.into_inner()).await;
        answer(loaded.map(|()| pb::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Answer<pb::RepositoryModelUnloadResponse> {
        let unloaded = repository::unload(&self.service, request.into_inner()).await;
        answer(unloaded.map(|()| pb::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<pb::SystemSharedMemoryStatusRequest>,
    ) -> Answer<pb::SystemSharedMemoryStatusResponse> {
        let regions = self.service.shared_memory().status(named(&request.get_ref().name));
        let entry = |(name, region): (String, Arc<Region>)| {
            let (key, offset, byte_size) = (region.key.clone(), region.offset, region.byte_size);
            (name.clone(), RegionStatus { name, key, offset, byte_size })
        };
        answer(
            regions.map(|regions| pb::SystemSharedMemoryStatusResponse {
                regions: regions.into_iter().map(entry).collect(),
            }),
        )
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<pb::SystemSharedMemoryRegisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryRegisterResponse> {
        let pb::SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request.get_ref();
        let registered = self.service.shared_memory().register(name, key, *offset, *byte_size);
        answer(registered.map(|()| pb::SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<pb::SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryUnregisterResponse> {
        let unregistered = self.service.shared_memory().unregister(named(&request.get_ref().name));
        answer(unregistered.map(|()| pb::SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<pb::CudaSharedMemoryStatusRequest>,
    ) -> Answer<pb::CudaSharedMemoryStatusResponse> {
        let none = shared_memory::cuda_status(named(&request.get_ref().name));
        answer(none.map(|()| pb::CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<pb::CudaSharedMemoryRegisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryRegisterResponse> {
        answer(Err(shared_memory::cuda_unsupported()))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<pb::CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryUnregisterResponse> {
        Ok(Response::new(pb::CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(&self, request: Request<pb::TraceSettingRequest>) -> Answer<pb::TraceSettingResponse> {
        answer(settings::trace(&self.service, request.into_inner()))
    }

    async fn log_settings(&self, request: Request<pb::LogSettingsRequest>) -> Answer<pb::LogSettingsResponse> {
        answer(settings::logging(request.into_inner()))
    }
}
