//! The gRPC side of the scripted suite, on a tonic server.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use quintet_proto::{
    EFFECTIVE_PROVIDER, PRECISION, SERVER_TIMING,
    inference::{grpc_inference_service_server::GrpcInferenceService, *},
};
use tonic::{Request, Response, Status};

use super::{LaneState, MODEL, grpc_answer};

pub struct Scripted(pub Arc<LaneState>);

/// Implements the service: the methods that the benchmark calls are scripted, the listed ones are UNIMPLEMENTED.
macro_rules! service {
    ($($method:ident: $request:ident => $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl GrpcInferenceService for Scripted {
            type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

            async fn model_stream_infer(
                &self,
                _: Request<tonic::Streaming<ModelInferRequest>>,
            ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
                Err(Status::unimplemented("not scripted"))
            }

            async fn model_ready(&self, r: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
                Ok(Response::new(ModelReadyResponse { ready: r.get_ref().name == MODEL }))
            }

            async fn server_metadata(
                &self,
                _: Request<ServerMetadataRequest>,
            ) -> Result<Response<ServerMetadataResponse>, Status> {
                let (name, version) = ("scripted".into(), "1.2.3".into());
                Ok(Response::new(ServerMetadataResponse { name, version, extensions: Vec::new() }))
            }

            async fn model_metadata(
                &self,
                _: Request<ModelMetadataRequest>,
            ) -> Result<Response<ModelMetadataResponse>, Status> {
                let versions = vec!["1".into()];
                let mut response = Response::new(ModelMetadataResponse { versions, ..Default::default() });
                if let Some(provider) = self.0.provider() {
                    response.metadata_mut().insert(EFFECTIVE_PROVIDER, provider.parse().unwrap());
                }
                if let Some(precision) = self.0.script.precision {
                    response.metadata_mut().insert(PRECISION, precision.parse().unwrap());
                }
                Ok(response)
            }

            async fn model_statistics(
                &self,
                _: Request<ModelStatisticsRequest>,
            ) -> Result<Response<ModelStatisticsResponse>, Status> {
                if !self.0.script.stock {
                    return Err(Status::unimplemented("not scripted"));
                }
                Ok(Response::new(ModelStatisticsResponse { model_stats: vec![self.0.counted.statistics()] }))
            }

            async fn system_shared_memory_register(
                &self,
                r: Request<SystemSharedMemoryRegisterRequest>,
            ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
                let request = r.get_ref();
                self.0.regions.register(&request.name, &request.key).map_err(Status::invalid_argument)?;
                Ok(Response::new(SystemSharedMemoryRegisterResponse {}))
            }

            async fn system_shared_memory_unregister(
                &self,
                r: Request<SystemSharedMemoryUnregisterRequest>,
            ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
                self.0.regions.unregister(&r.get_ref().name);
                Ok(Response::new(SystemSharedMemoryUnregisterResponse {}))
            }

            async fn model_infer(&self, r: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
                let mut response = grpc_answer(&self.0, r.get_ref()).map(Response::new)?;
                if let Some(value) = self.0.server_timing() {
                    response.metadata_mut().insert(SERVER_TIMING, value.parse().unwrap());
                }
                Ok(response)
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

service! {
    server_live: ServerLiveRequest => ServerLiveResponse,
    server_ready: ServerReadyRequest => ServerReadyResponse,
    model_config: ModelConfigRequest => ModelConfigResponse,
    repository_index: RepositoryIndexRequest => RepositoryIndexResponse,
    repository_model_load: RepositoryModelLoadRequest => RepositoryModelLoadResponse,
    repository_model_unload: RepositoryModelUnloadRequest => RepositoryModelUnloadResponse,
    system_shared_memory_status: SystemSharedMemoryStatusRequest => SystemSharedMemoryStatusResponse,
    cuda_shared_memory_status: CudaSharedMemoryStatusRequest => CudaSharedMemoryStatusResponse,
    cuda_shared_memory_register: CudaSharedMemoryRegisterRequest => CudaSharedMemoryRegisterResponse,
    cuda_shared_memory_unregister: CudaSharedMemoryUnregisterRequest => CudaSharedMemoryUnregisterResponse,
    trace_setting: TraceSettingRequest => TraceSettingResponse,
    log_settings: LogSettingsRequest => LogSettingsResponse,
}
