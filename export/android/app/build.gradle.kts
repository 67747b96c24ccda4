plugins {
    id("com.android.application")
    kotlin("android")
}

val onnxruntime = "1.22.0"

android {
    namespace = "edgekit.app"
    compileSdk = 35
    defaultConfig {
        applicationId = "edgekit.app"
        minSdk = 24
        targetSdk = 35
        versionCode = 1
        versionName = "1"
        buildConfigField("String", "ONNXRUNTIME", "\"$onnxruntime\"")
    }
    buildFeatures {
        buildConfig = true
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions {
        jvmTarget = "17"
    }
}

dependencies {
    implementation(project(":plan"))
    implementation("com.microsoft.onnxruntime:onnxruntime-android:$onnxruntime")
}
