import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.*;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Files;
import java.nio.file.Path;

/** Runs HiveMQ CE with the configuration in HOME/conf until it is told to stop. Argument: HOME. */
public final class HiveMqServer {
    /** HiveMQ refuses every client unless an extension lets it in; on loopback all may come in. */
    private static final class AllowAll implements ExtensionMain {
        @Override public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            SimpleAuthenticator allow = (client, decision) -> decision.authenticateSuccessfully();
            Services.securityRegistry().setAuthenticatorProvider(provider -> allow);
        }

        @Override public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        EmbeddedExtension allowAll = EmbeddedExtension.builder()
                .withId("allow-all").withName("allow all").withVersion("1").withAuthor("iotml")
                .withPriority(0).withStartPriority(1000).withExtensionMain(new AllowAll()).build();
        EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(home.resolve("conf"))
                .withDataFolder(Files.createDirectories(home.resolve("data")))
                .withExtensionsFolder(Files.createDirectories(home.resolve("extensions")))
                .withEmbeddedExtension(allowAll).build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
        broker.start().join();
        Thread.currentThread().join();
    }
}
