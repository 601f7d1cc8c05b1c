// Classify photos with a file that `qprompt-edge bake --pixels uint8` wrote. Photos are binary PPM (P6).
//     cc classify.c -I/usr/include/onnxruntime -lonnxruntime -o classify && ./classify belt.onnx photo.ppm
#include <onnxruntime_c_api.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
static const OrtApi *ort;
static void check(OrtStatus *status) {
    if (status == NULL) return;
    fprintf(stderr, "error: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

static unsigned char *read_ppm(const char *path, int64_t shape[4]) {
    FILE *file = fopen(path, "rb");
    int width, height, most;
    if (!file || fscanf(file, "P6 %d %d %d", &width, &height, &most) != 3 || most != 255 || fgetc(file) == EOF)
        fprintf(stderr, "error: %s is no binary PPM with 8 bits a channel\n", path), exit(1);
    shape[0] = 1, shape[1] = height, shape[2] = width, shape[3] = 3;
    size_t size = (size_t)width * height * 3;
    unsigned char *pixels = malloc(size);
    if (!pixels || fread(pixels, 1, size, file) != size) fprintf(stderr, "error: %s ends early\n", path), exit(1);
    fclose(file);
    return pixels;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: %s MODEL.onnx PHOTO.ppm...\n", argv[0]), 2;
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort) return fprintf(stderr, "error: the library is older than its header\n"), 1;
    OrtEnv *env; OrtSessionOptions *options; OrtSession *session; OrtModelMetadata *facts;
    OrtAllocator *allocator; OrtMemoryInfo *memory; size_t outputs; // one, or two with "none of these"
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->SessionGetOutputCount(session, &outputs));
    check(ort->SessionGetModelMetadata(session, &facts));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    for (int photo = 2; photo < argc; photo++) {
        int64_t shape[4]; size_t classes, best = 0; float *shares; bool *none = NULL; char key[32], *label;
        OrtValue *image, *answers[2] = {NULL, NULL}; OrtTensorTypeAndShapeInfo *info;
        unsigned char *pixels = read_ppm(argv[photo], shape);
        check(ort->CreateTensorWithDataAsOrtValue(memory, pixels, (size_t)(shape[1] * shape[2] * 3), shape, 4,
                                                  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &image));
        check(ort->Run(session, NULL, (const char *[]){"image"}, (const OrtValue *[]){image}, 1,
                       (const char *[]){"probabilities", "none_of_these"}, outputs, answers));
        check(ort->GetTensorTypeAndShape(answers[0], &info));
        check(ort->GetTensorShapeElementCount(info, &classes));
        check(ort->GetTensorMutableData(answers[0], (void **)&shares));
        if (outputs > 1) check(ort->GetTensorMutableData(answers[1], (void **)&none));
        for (size_t i = 1; i < classes; i++) if (shares[i] > shares[best]) best = i;
        snprintf(key, sizeof key, "label.%zu", best);
        check(ort->ModelMetadataLookupCustomMetadataMap(facts, allocator, key, &label));
        printf("%s\t%s\t%.6f\n", argv[photo], none && *none ? "none of these" : label, shares[best]);
        allocator->Free(allocator, label), ort->ReleaseValue(image), ort->ReleaseTensorTypeAndShapeInfo(info);
        ort->ReleaseValue(answers[0]), ort->ReleaseValue(answers[1]), free(pixels);
    }
    return 0;
}
